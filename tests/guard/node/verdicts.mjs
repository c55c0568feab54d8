// Prints which of the tokens on stdin the guard accepts, and what it logs on stderr.
import { readFileSync } from 'node:fs'
import { AccessError, Guard } from 'tokenapp-guard'

const { options, tokens } = JSON.parse(readFileSync(0, 'utf8'))
const guard = new Guard({ ...options, log: console.error })

async function verdict(token) {
  try {
    return (await guard.verify(token)).subject
  } catch (error) {
    if (!(error instanceof AccessError)) throw error
    return error.status
  }
}

const verdicts = Object.entries(tokens).map(async ([name, token]) => [name, await verdict(token)])
console.log(JSON.stringify(Object.fromEntries(await Promise.all(verdicts))))
