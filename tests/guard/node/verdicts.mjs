// Prints which of the tokens on stdin the guard accepts.
import { readFileSync } from 'node:fs'
import { AccessError, Guard } from 'tokenapp-guard'

const { options, tokens } = JSON.parse(readFileSync(0, 'utf8'))
const guard = new Guard({ ...options, log() {} })
const verdicts = {}
for (const [name, token] of Object.entries(tokens)) {
  try {
    verdicts[name] = (await guard.verify(token)).subject
  } catch (error) {
    if (!(error instanceof AccessError)) throw error
    verdicts[name] = error.status
  }
}
console.log(JSON.stringify(verdicts))
