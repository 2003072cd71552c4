import { request, type IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { BundleEndpoint, BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import type { Bundle } from '../../spiffe/bundle.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkContent, readDocument } from './answer-content.ts'
import { prepareConnect, type Connect, type EndpointTrust } from './connect-endpoint.ts'
import { withDeadline } from './deadline.ts'
import { defaultFetchLimits, type FetchLimits } from './fetch-limits.ts'
import { readFetched } from './read-fetched.ts'
import { isRedirect, redirectTarget } from './redirect-target.ts'

export interface FetchDeps extends EndpointTrust {
  readonly limits?: Partial<FetchLimits> | undefined
  /** Whether redirects are followed (FED-19); they are by default. */
  readonly followRedirects?: boolean | undefined
  /** What the last fetch gave: not sent again unless it has changed. */
  readonly last?: FetchedBundle | undefined
}

export interface FetchedBundle {
  readonly bundle: Bundle
  /** Where it was in the end. Never asked first: each fetch begins at the configured URL (FED-20). */
  readonly url: BundleEndpointUrl
  readonly etag: string | undefined
  /** Of keys that cannot be used, the first few: for the log. */
  readonly skipped: readonly string[]
  /** Whether the endpoint only said that `last` is still the newest. */
  readonly unchanged: boolean
}

interface Hop { readonly url: BundleEndpointUrl, readonly socket: TLSSocket, readonly response: IncomingMessage }

const mostNotes = 10
const longestEtag = 256

/**
 * Fetches a partner's bundle (Federation §5.2). Nothing of it is stored or believed here.
 * @throws {SpiffeError} `bundle_endpoint_unreachable`, `bundle_endpoint_slow`, `bundle_endpoint_untrusted`, `bundle_endpoint_id_unknown`,
 *   `bundle_redirect_refused`, `fetched_bundle_malformed`, `fetched_bundle_too_large`, `file_unusable`; the signal's reason when it aborts
 */
export async function fetchBundle (endpoint: BundleEndpoint, deps: FetchDeps, signal: AbortSignal): Promise<FetchedBundle> {
  const limits = { ...defaultFetchLimits, ...deps.limits }
  const { clock } = deps
  const late = () => slow(`nothing whole came within ${limits.totalTimeoutMs} ms`)
  try {
    // Before the time runs, which is the partner's: reading the web's roots may take long.
    const connect = await prepareConnect(endpoint.profile, deps)
    return await withDeadline(clock, limits.totalTimeoutMs, late, signal, async inner => {
      const hop = await follow(endpoint, connect, deps, limits, inner)
      try {
        return await read(hop, endpoint, deps, limits, inner)
      } finally {
        hop.socket.destroy()
      }
    })
  } catch (error) {
    signal.throwIfAborted()
    throw explained(error, endpoint)
  }
}

async function follow (
  endpoint: BundleEndpoint, connect: Connect, deps: FetchDeps, limits: FetchLimits, signal: AbortSignal
): Promise<Hop> {
  let { url } = endpoint
  for (let redirects = 0; ; redirects++) {
    const hop = await ask(url, connect, deps, limits, signal)
    const { statusCode = 0, headers: { location } } = hop.response
    if (!isRedirect(statusCode)) return hop
    hop.socket.destroy()
    if (deps.followRedirects === false) throw refusedRedirect('it redirects, and redirects are not followed')
    if (redirects >= limits.maxRedirects) throw refusedRedirect(`it redirects more than ${limits.maxRedirects} times`)
    url = redirectTarget(location, url)
  }
}

async function ask (
  url: BundleEndpointUrl, connect: Connect, { clock, last }: FetchDeps, limits: FetchLimits, signal: AbortSignal
): Promise<Hop> {
  const { headersTimeoutMs } = limits
  const late = () => slow(`no answer came within ${headersTimeoutMs} ms`)
  return await withDeadline(clock, headersTimeoutMs, late, signal, async inner => {
    const socket = await connect(url, inner)
    try {
      const etag = last?.url === url ? last.etag : undefined
      return { url, socket, response: await get(url, socket, etag, limits, inner) }
    } catch (error) {
      socket.destroy()
      throw error
    }
  })
}

function get (
  url: BundleEndpointUrl, socket: TLSSocket, etag: string | undefined, { maxHeaderBytes }: FetchLimits, signal: AbortSignal
): Promise<IncomingMessage> {
  const { host, pathname, search } = new URL(url)
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const stop = () => {
      socket.destroy()
      reject(signal.reason)
    }
    signal.addEventListener('abort', stop)
    const sent = request({
      createConnection: () => socket, method: 'GET', path: pathname + search, maxHeaderSize: maxHeaderBytes,
      // Unpacked, a small answer could be a giant one.
      headers: { host, accept: 'application/json', 'accept-encoding': 'identity', ...etag === undefined ? {} : { 'if-none-match': etag } }
    }, response => {
      signal.removeEventListener('abort', stop)
      resolve(response)
    })
    sent.on('error', reject).once('close', () => {
      signal.removeEventListener('abort', stop)
      reject(new SpiffeError('bundle_endpoint_unreachable', 'the connection was closed without an answer'))
    })
    sent.end()
  })
}

async function read (
  { url, socket, response }: Hop, endpoint: BundleEndpoint, { last }: FetchDeps, limits: FetchLimits, signal: AbortSignal
): Promise<FetchedBundle> {
  const { statusCode = 0, headers } = response
  if (statusCode === 304 && last?.etag !== undefined && last.url === url) return { ...last, unchanged: true }
  if (statusCode !== 200) throw unexpected(statusCode, headers['retry-after'])
  checkContent(headers, limits)
  const bytes = await readDocument(response, socket, limits, signal)
  const skipped: string[] = []
  const bundle = readFetched(bytes, endpoint.trustDomain, limits, note => { if (skipped.length < mostNotes) skipped.push(note) })
  const etag = headers.etag !== undefined && headers.etag.length <= longestEtag ? headers.etag : undefined
  return { bundle, url, etag, skipped, unchanged: false }
}

function unexpected (status: number, retryAfter: string | undefined): SpiffeError {
  const seconds = /^\d{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined
  return new SpiffeError('bundle_endpoint_unreachable', `it answers with status ${status}`, {
    details: { status }, ...seconds === undefined ? {} : { retryAfterMs: seconds * 1000 }
  })
}

/** With the URL, but without its query, which may hold a key to what is fetched. */
function explained (error: unknown, { url }: BundleEndpoint): unknown {
  const at = url.replace(/\?.*$/s, '')
  if (error instanceof SpiffeError) {
    const { code, message, requirement, details, retryAfterMs } = error
    return new SpiffeError(code, `${at}: ${message}`, { cause: error.cause ?? error, requirement, details, retryAfterMs })
  }
  const { code, message } = error as NodeJS.ErrnoException
  // What the system, TLS or HTTP says has a code; what has none is a bug.
  if (code === undefined || error instanceof TypeError) return error
  return new SpiffeError('bundle_endpoint_unreachable', `${at}: ${message === '' ? code : message}`, { cause: error })
}

function slow (rule: string): SpiffeError { return new SpiffeError('bundle_endpoint_slow', rule) }

function refusedRedirect (rule: string): SpiffeError { return new SpiffeError('bundle_redirect_refused', rule, { requirement: 'FED-19' }) }
