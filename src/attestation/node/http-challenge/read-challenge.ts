import { request } from 'node:http'
import type { Clock } from '../../../runtime/clock.ts'
import { challengePath, type HttpPlace } from './http-payload.ts'

/** From the first lookup of the name to the last byte. */
const timeoutMs = 10_000
/** As SPIRE reads: a nonce has 44 characters, and lines around it are no part of it. */
const maxBytes = 64

/**
 * Asks an agent's port for what it was told to show. Redirects are not followed: where they lead is another machine, perhaps.
 * @returns without white space around it
 * @throws {Error} saying why there is nothing
 */
export async function readChallenge ({ hostName, port, agentName }: HttpPlace, clock: Clock, signal: AbortSignal): Promise<string> {
  const done = new AbortController()
  const late = new AbortController()
  const timer = clock.sleep(timeoutMs, done.signal).then(() => late.abort(new Error(`took longer than ${timeoutMs} ms`)), () => {})
  try {
    return await read(`http://${hostName}:${port}${challengePath(agentName)}`, AbortSignal.any([signal, late.signal]))
  } catch (error) {
    throw late.signal.aborted ? late.signal.reason : error
  } finally {
    done.abort()
    await timer
  }
}

function read (url: string, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    // No agent: nothing is kept open, and no proxy of the environment is asked.
    const asked = request(url, { agent: false, signal, maxHeaderSize: 8_192, headers: { accept: 'text/plain' } }, response => {
      if (response.statusCode !== 200) {
        asked.destroy()
        return reject(new Error(`it answered with status ${response.statusCode}`))
      }
      let bytes = Buffer.alloc(0)
      const finish = () => {
        resolve(bytes.subarray(0, maxBytes).toString('latin1').trim())
        asked.destroy()
      }
      response.on('data', (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk])
        if (bytes.length >= maxBytes) finish()
      }).on('end', finish).on('error', reject)
    })
    // Whatever else ends it, such as another protocol, brings no error.
    asked.on('error', reject).on('close', () => reject(new Error('the connection ended'))).end()
  })
}
