import acme from 'acme-client'
import { createSecureContext, type SecureContext } from 'node:tls'
import { SpiffeError } from '../spiffe/errors.ts'

export interface OrderOptions {
  /** The CA's, `https`. */
  readonly directoryUrl: string
  /** All in one certificate; the first is its common name. */
  readonly domainNames: readonly string[]
  readonly email: string
  /** PEM. Secret. */
  readonly accountKey: string
  /** Shows a domain's challenge to whoever asks by ALPN `acme-tls/1`, until told `undefined`. */
  readonly showChallenge: (context: SecureContext | undefined) => void
  /** Between looks at what the CA does; milliseconds. */
  readonly pause: (ms: number) => Promise<void>
}

export interface OrderedCertificate {
  /** PEM, the server's own certificate first. */
  readonly cert: string
  /** PEM. Secret. */
  readonly key: string
}

const pauseMs = 2_000
/** How often a slow CA is looked at. */
const mostLooks = 90

/**
 * Has a CA certify domains (RFC 8555) once this server has shown by TLS-ALPN-01 (RFC 8737) that it answers at each.
 * @throws {SpiffeError} `acme_failed`, in the CA's own words
 */
export async function orderCertificate (
  { directoryUrl, domainNames, email, accountKey, showChallenge, pause }: OrderOptions
): Promise<OrderedCertificate> {
  try {
    const client = new acme.Client({ directoryUrl, accountKey })
    await client.createAccount({ termsOfServiceAgreed: true, contact: [`mailto:${email}`] })
    const order = await client.createOrder({ identifiers: domainNames.map(value => ({ type: 'dns', value })) })
    for (const authorization of await client.getAuthorizations(order)) {
      if (authorization.status === 'valid') continue
      // The library's types know two kinds only.
      const challenge = authorization.challenges.find(({ type }) => type as string === 'tls-alpn-01')
      if (challenge === undefined) throw new Error('the CA offers no challenge of type tls-alpn-01')
      const [key, cert] = await acme.crypto.createAlpnCertificate(authorization, await client.getChallengeKeyAuthorization(challenge))
      showChallenge(createSecureContext({ key, cert }))
      await client.completeChallenge(challenge)
      await untilValid('the challenge', async () => {
        const now = (await client.getAuthorizations(order)).find(({ url }) => url === authorization.url)
        return { status: now?.status, reason: now?.challenges.find(({ type }) => type === challenge.type)?.error }
      }, pause)
    }
    const key = await acme.crypto.createPrivateEcdsaKey('P-256')
    const [, csr] = await acme.crypto.createCsr({ commonName: domainNames[0] as string, altNames: [...domainNames] }, key)
    await client.finalizeOrder(order, csr)
    await untilValid('the order', async () => {
      const { status, error } = await client.getOrder(order)
      return { status, reason: error }
    }, pause)
    return { cert: await client.getCertificate(await client.getOrder(order)), key: key.toString() }
  } catch (cause) {
    const wanted = `no certificate for ${domainNames.join(', ')} from ${directoryUrl}`
    throw new SpiffeError('acme_failed', `${wanted}: ${(cause as Error).message}`, { cause })
  } finally {
    showChallenge(undefined)
  }
}

interface Progress { readonly status: string | undefined, readonly reason: unknown }

/** The library waits as well, but heeds no signal. */
async function untilValid (what: string, look: () => Promise<Progress>, pause: (ms: number) => Promise<void>): Promise<void> {
  for (let looks = 0; looks < mostLooks; looks++) {
    const { status, reason } = await look()
    if (status === 'valid') return
    if (!['pending', 'processing', 'ready'].includes(status ?? '')) throw new Error(`${what} is ${status}${detailOf(reason)}`)
    await pause(pauseMs)
  }
  throw new Error(`${what} was not decided within ${mostLooks * pauseMs / 1_000} s`)
}

/** Of a problem document (RFC 7807). */
function detailOf (reason: unknown): string {
  const { detail } = (reason ?? {}) as { readonly detail?: unknown }
  return typeof detail === 'string' ? `: ${detail.slice(0, 300)}` : ''
}
