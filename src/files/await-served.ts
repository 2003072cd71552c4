import type { Clock } from '../runtime/clock.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import type { ServesConfig } from './files-config.ts'
import { readServedCertificate, type OwnCertificate } from './served-certificate.ts'

export interface AwaitServedDeps {
  readonly clock: Clock
  /** How one connection is looked at; tests have their own. */
  readonly read?: typeof readServedCertificate
}

const lookEveryMs = 200
/** Programs of several processes show the old certificate here and there for a moment yet. */
const inARow = 3

/**
 * Returns once new connections are shown this certificate, three times in a row.
 * @throws {SpiffeError} `svid_not_served`: they were not within `withinMs`, and what they were shown instead
 */
export async function awaitServed (
  config: ServesConfig, leaf: Certificate, own: OwnCertificate,
  { clock, read = readServedCertificate }: AwaitServedDeps, signal: AbortSignal
): Promise<void> {
  const endMs = clock.monotonicMs() + config.withinMs
  for (let seen = 0, last = 'nothing was seen'; ;) {
    try {
      const shown = await read(config, own, clock, signal)
      seen = shown.equals(leaf.raw) ? seen + 1 : 0
      if (seen === inARow) return
      if (seen === 0) last = `it shows ${describe(shown)}`
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      seen = 0
      last = error.message
    }
    if (clock.monotonicMs() >= endMs) {
      const what = `does not serve serial ${leaf.serialNumber} ${config.withinMs / 1_000} s after the reload`
      throw new SpiffeError('svid_not_served', `${config.host}:${config.port} ${what}: ${last}`)
    }
    if (seen === 0) await clock.sleep(lookEveryMs, signal)
  }
}

function describe (der: Buffer): string {
  try {
    const { serialNumber, notAfter, uriSans } = parseCertificate(der)
    return `serial ${serialNumber} of ${uriSans[0] ?? 'no SPIFFE ID'}, valid until ${notAfter.toISOString()}`
  } catch {
    return 'a certificate that cannot be read'
  }
}
