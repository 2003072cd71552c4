import { request, type IncomingMessage } from 'node:http'
import type { TLSSocket } from 'node:tls'
import type { BundleEndpoint, BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { checkContent, readDocument } from './answer-content.ts'
import { prepareConnect, type Connect, type EndpointTrust } from './connect-endpoint.ts'
import { withDeadline } from './deadline.ts'
import { defaultFetchLimits, type FetchLimits } from './fetch-limits.ts'
import { isRedirect, redirectTarget } from './redirect-target.ts'

export interface FetchDeps extends EndpointTrust {
  readonly limits?: Partial<FetchLimits> | undefined
  /** Whether redirects are followed (FED-19); they are by default. */
  readonly followRedirects?: boolean | undefined
}

/** Where a document was in the end, and the mark that it had there: it is not sent again unless it has changed. */
export interface LastFetch {
  readonly url: BundleEndpointUrl
  readonly etag: string | undefined
}

export interface FetchedDocument<T> extends LastFetch {
  /** Undefined when the endpoint only said that the last one is still the newest. */
  readonly content: T | undefined
}

/** What is wanted beside where it is. */
export interface DocumentOrder<T> {
  /** Media types, as in the header `Accept`. */
  readonly accept: string
  readonly last: LastFetch | undefined
  /** @param bytes no more than the limit */
  readonly read: (bytes: Uint8Array, limits: FetchLimits) => T
}

interface Hop { readonly url: BundleEndpointUrl, readonly socket: TLSSocket, readonly response: IncomingMessage }

const longestEtag = 256

/**
 * Fetches what is at an endpoint, which proves who it is in its profile (Federation §5.2).
 * @throws {SpiffeError} `bundle_endpoint_unreachable`, `bundle_endpoint_slow`, `bundle_endpoint_untrusted`, `bundle_endpoint_id_unknown`,
 *   `bundle_redirect_refused`, `fetched_bundle_malformed`, `fetched_bundle_too_large`, `file_unusable`; of `read`; the signal's reason when
 *   it aborts
 */
export async function fetchDocument<T> (
  endpoint: BundleEndpoint, order: DocumentOrder<T>, deps: FetchDeps, signal: AbortSignal
): Promise<FetchedDocument<T>> {
  const limits = { ...defaultFetchLimits, ...deps.limits }
  const { clock } = deps
  const late = () => slow(`nothing whole came within ${limits.totalTimeoutMs} ms`)
  try {
    // Before the time runs, which is the partner's: reading the web's roots may take long.
    const connect = await prepareConnect(endpoint.profile, deps)
    return await withDeadline(clock, limits.totalTimeoutMs, late, signal, async inner => {
      const hop = await follow(endpoint, connect, order, deps, limits, inner)
      try {
        return await readHop(hop, order, limits, inner)
      } finally {
        hop.socket.destroy()
      }
    })
  } catch (error) {
    signal.throwIfAborted()
    throw explained(error, endpoint)
  }
}

type Wanted = Pick<DocumentOrder<unknown>, 'accept' | 'last'>

async function follow (
  endpoint: BundleEndpoint, connect: Connect, wanted: Wanted, deps: FetchDeps, limits: FetchLimits, signal: AbortSignal
): Promise<Hop> {
  let { url } = endpoint
  for (let redirects = 0; ; redirects++) {
    const hop = await ask(url, connect, wanted, deps, limits, signal)
    const { statusCode = 0, headers: { location } } = hop.response
    if (!isRedirect(statusCode)) return hop
    hop.socket.destroy()
    if (deps.followRedirects === false) throw refusedRedirect('it redirects, and redirects are not followed')
    if (redirects >= limits.maxRedirects) throw refusedRedirect(`it redirects more than ${limits.maxRedirects} times`)
    url = redirectTarget(location, url)
  }
}

async function ask (
  url: BundleEndpointUrl, connect: Connect, wanted: Wanted, { clock }: FetchDeps, limits: FetchLimits, signal: AbortSignal
): Promise<Hop> {
  const { headersTimeoutMs } = limits
  const late = () => slow(`no answer came within ${headersTimeoutMs} ms`)
  return await withDeadline(clock, headersTimeoutMs, late, signal, async inner => {
    const socket = await connect(url, inner)
    try {
      return { url, socket, response: await get(url, socket, wanted, limits, inner) }
    } catch (error) {
      socket.destroy()
      throw error
    }
  })
}

function get (
  url: BundleEndpointUrl, socket: TLSSocket, { accept, last }: Wanted, { maxHeaderBytes }: FetchLimits, signal: AbortSignal
): Promise<IncomingMessage> {
  const { host, pathname, search } = new URL(url)
  const etag = last?.url === url ? last.etag : undefined
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
      headers: { host, accept, 'accept-encoding': 'identity', ...etag === undefined ? {} : { 'if-none-match': etag } }
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

async function readHop<T> (
  { url, socket, response }: Hop, { last, read }: DocumentOrder<T>, limits: FetchLimits, signal: AbortSignal
): Promise<FetchedDocument<T>> {
  const { statusCode = 0, headers } = response
  if (statusCode === 304 && last?.etag !== undefined && last.url === url) return { url, etag: last.etag, content: undefined }
  if (statusCode !== 200) throw unexpected(statusCode, headers['retry-after'])
  checkContent(headers, limits)
  const content = read(await readDocument(response, socket, limits, signal), limits)
  const etag = headers.etag !== undefined && headers.etag.length <= longestEtag ? headers.etag : undefined
  return { url, etag, content }
}

function unexpected (status: number, retryAfter: string | undefined): SpiffeError {
  const seconds = /^\d{1,6}$/.test(retryAfter ?? '') ? Number(retryAfter) : undefined
  return new SpiffeError('bundle_endpoint_unreachable', `it answers with status ${status}`, {
    details: { status }, ...seconds === undefined ? {} : { retryAfterMs: seconds * 1000 }
  })
}

/** Without its query, which may hold a key to what is fetched. */
export function shownUrl ({ url }: Pick<BundleEndpoint, 'url'>): string { return url.replace(/\?.*$/s, '') }

/** With the URL. */
function explained (error: unknown, endpoint: BundleEndpoint): unknown {
  const at = shownUrl(endpoint)
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
