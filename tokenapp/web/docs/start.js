// In a file of its own, because the page's Content-Security-Policy lets no inline script run.
"use strict";

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null, // it would be on another host
  deepLinking: true,
});
