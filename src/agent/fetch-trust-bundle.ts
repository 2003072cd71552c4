import { request as requestOverTls } from 'node:https'
import { request as requestInClear, type IncomingMessage } from 'node:http'
import { getCACertificates } from 'node:tls'
import { SpiffeError } from '../spiffe/errors.ts'

export interface FetchTrustBundleOptions {
  /** PEM; those of the web and of this machine by default, NODE_EXTRA_CA_CERTS among them. */
  readonly authorities?: readonly string[]
  /** Ask this Unix socket instead of the URL's host: whoever may listen there vouches for what it says. */
  readonly socketPath?: string | undefined
  /** Of the whole fetch. */
  readonly timeoutMs?: number
}

const maxBytes = 1_048_576
const maxRedirects = 5

/**
 * Fetches the bundle of `trust_bundle_url`. The web's certificates vouch for it, at each redirect too; none leaves https.
 * @param url `https:`, or `http:` with a socket path
 * @returns what is there, whatever it is
 * @throws {SpiffeError} `trust_bundle_unavailable`; `bootstrap_untrusted` when the certificate is not the host's
 */
export async function fetchTrustBundle (
  url: string, signal: AbortSignal, { authorities = webAuthorities(), socketPath, timeoutMs = 30_000 }: FetchTrustBundleOptions = {}
): Promise<string> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)])
  try {
    let at = new URL(url)
    for (let redirects = 0; redirects <= maxRedirects; redirects++) {
      const response = socketPath === undefined ? await get(at, authorities, within) : await getFrom(socketPath, at, within)
      const { statusCode = 0, headers: { location } } = response
      if (statusCode === 200) return await readText(response)
      response.destroy()
      if (statusCode < 300 || statusCode > 399 || location === undefined) throw new Error(`it answers with status ${statusCode}`)
      at = new URL(location, at)
      if (at.protocol !== 'https:' || socketPath !== undefined) throw new Error(`it redirects to ${at.protocol}`)
    }
    throw new Error(`it redirects more than ${maxRedirects} times`)
  } catch (error) {
    signal.throwIfAborted()
    const { code, message } = error as NodeJS.ErrnoException
    const refusal = code !== undefined && certificateFaults.test(code) ? 'bootstrap_untrusted' : 'trust_bundle_unavailable'
    throw new SpiffeError(refusal, `cannot fetch ${withoutQuery(url)}: ${message}`, { cause: error })
  }
}

/** As it may be shown: a query may hold a key to what is fetched. */
export function withoutQuery (url: string): string {
  return url.replace(/\?.*$/s, '')
}

/** OpenSSL's verdicts on a chain, and Node's on a name. */
const certificateFaults = /CERT|SIGNATURE|SELF_SIGNED|UNABLE_TO_(?:GET|VERIFY)|PATH_LENGTH|INVALID_(?:CA|PURPOSE)|HOSTNAME_MISMATCH/

function webAuthorities (): string[] {
  return [...new Set([...getCACertificates('default'), ...getCACertificates('system'), ...getCACertificates('extra')])]
}

function get (url: URL, authorities: readonly string[], signal: AbortSignal): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = { accept: '*/*' }
    const ask = requestOverTls(url, { ca: [...authorities], signal, agent: false, minVersion: 'TLSv1.2', headers }, resolve)
    ask.on('error', reject).end()
  })
}

function getFrom (socketPath: string, url: URL, signal: AbortSignal): Promise<IncomingMessage> {
  const headers = { accept: '*/*', host: url.host }
  return new Promise((resolve, reject) => {
    const ask = requestInClear({ socketPath, path: `${url.pathname}${url.search}`, headers, signal, agent: false }, resolve)
    ask.on('error', reject).end()
  })
}

async function readText (response: IncomingMessage): Promise<string> {
  const parts: Uint8Array[] = []
  let bytes = 0
  for await (const part of response as AsyncIterable<Uint8Array>) {
    bytes += part.length
    if (bytes > maxBytes) throw new Error(`it is longer than ${maxBytes} bytes`)
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
