import { RetryLater } from './batching-sink.ts'

export interface PostOptions {
  readonly url: string
  /** e.g. `authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** 10,000. */
  readonly timeoutMs?: number | undefined
}

export type PostAnswer = { readonly outcome: 'taken', readonly body: string } | { readonly outcome: 'refused', readonly status: number }

const longestAnswer = 1_048_576

/**
 * Sends one body.
 * @returns whether it was taken, or refused for good
 * @throws {Error} when it may be taken later: no connection, 429, 5xx; with `Retry-After` a `RetryLater`
 */
export async function post (
  { url, headers, timeoutMs = 10_000 }: PostOptions, body: Uint8Array<ArrayBuffer>, more: Readonly<Record<string, string>>,
  signal: AbortSignal
): Promise<PostAnswer> {
  const response = await fetch(url, {
    method: 'POST', body, headers: { ...headers, ...more }, redirect: 'error',
    signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  })
  const text = await begin(response)
  if (response.ok) return { outcome: 'taken', body: text }
  const { status } = response
  if (status !== 429 && status !== 408 && status < 500) return { outcome: 'refused', status }
  const after = Number(response.headers.get('retry-after') ?? Number.NaN)
  throw new RetryLater(`it answered ${status}`, Number.isFinite(after) && after > 0 ? after * 1_000 : 0)
}

/** Nobody needs to read more of an answer than this. */
async function begin (response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk)
    length += chunk.length
    if (length > longestAnswer) break
  }
  return Buffer.concat(chunks).toString('utf8')
}
