import { parseBundleEndpointUrl, type BundleEndpointUrl } from '../../spiffe/bundle-endpoint.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

/** Temporary or not: no redirect is remembered (FED-20). */
const redirects: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])

export function isRedirect (status: number): boolean { return redirects.has(status) }

/**
 * Where an answer sends us: a URL that could have been configured as well (FED-18, FED-19).
 * @param location of the header, absolute or relative to `from`
 * @throws {SpiffeError} `bundle_redirect_refused`
 */
export function redirectTarget (location: string | undefined, from: BundleEndpointUrl): BundleEndpointUrl {
  if (location === undefined) throw refused('it redirects nowhere')
  // Looked at as it stands: `URL` would drop an empty user and read a backslash as a slash.
  const [bare = ''] = location.split('#', 1)
  const absolute = /^[a-z][a-z0-9+.-]*:/i.test(bare) ? bare : bare.startsWith('//') ? `https:${bare}` : undefined
  try {
    if (absolute !== undefined) return parseBundleEndpointUrl(absolute)
    if (/[^\x21-\x7e]|\\/.test(bare)) throw refused('it redirects to what is no URL')
    return parseBundleEndpointUrl(new URL(bare, from).href)
  } catch (cause) {
    if (!(cause instanceof SpiffeError) || cause.code === 'bundle_redirect_refused') throw cause
    throw new SpiffeError('bundle_redirect_refused', `it redirects elsewhere: ${cause.message}`, { cause, requirement: 'FED-19' })
  }
}

function refused (rule: string): SpiffeError { return new SpiffeError('bundle_redirect_refused', rule, { requirement: 'FED-19' }) }
