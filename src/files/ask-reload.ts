import { request as requestHttp } from 'node:http'
import { request as requestHttps } from 'node:https'
import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { HttpReload } from './files-config.ts'

/** Has a program reload by one HTTP request; any answer of 2xx will do. @throws {SpiffeError} `reload_failed` */
export async function askReload ({ url, method }: HttpReload, timeoutMs: number, clock: Clock, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const limit = new AbortController()
  const stop = () => limit.abort(signal.reason)
  signal.addEventListener('abort', stop, { once: true })
  const rest = new AbortController()
  clock.sleep(timeoutMs, rest.signal).then(() => limit.abort(new Error(`no answer within ${timeoutMs} ms`)), () => {})
  // What is in the query may be a secret.
  const where = `${url.origin}${url.pathname}`
  try {
    const status = await new Promise<number>((resolve, reject) => {
      const request = url.protocol === 'https:' ? requestHttps : requestHttp
      request(url, { method, agent: false, signal: limit.signal, headers: { 'content-length': 0 } }, response => {
        response.on('error', reject).on('end', () => resolve(response.statusCode ?? 0)).resume()
      }).on('error', reject).end()
    })
    if (status < 200 || status > 299) throw new SpiffeError('reload_failed', `${method} ${where} was answered with status ${status}`)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof SpiffeError) throw error
    const reason = limit.signal.aborted ? (limit.signal.reason as Error).message : (error as Error).message
    throw new SpiffeError('reload_failed', `${method} ${where} failed: ${reason}`, { cause: error })
  } finally {
    signal.removeEventListener('abort', stop)
    rest.abort()
  }
}
