// A separate file, because the page's Content-Security-Policy blocks inline scripts.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null, // the validator is on another host
  deepLinking: true,
});
