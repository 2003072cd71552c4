import { hash } from 'node:crypto'
import type { UpstreamTrust } from '../ca/upstream-authority.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { Certificate } from '../x509/certificate.ts'
import { trusted } from './issued-chain.ts'
import type { UpstreamHost } from './upstream-plugin.ts'

const lookEveryMs = 5_000

/**
 * Roots in files, now and when there are other ones. One that is gone from a file stays trusted until it ends or is revoked: files are
 * edited in haste. What cannot be read is said once, and what was there before stays.
 */
export async function * watchRoots (
  read: () => Promise<readonly Certificate[]>, { clock, log }: UpstreamHost, signal: AbortSignal
): AsyncGenerator<UpstreamTrust> {
  let shown: string | undefined
  let said: string | undefined
  for (;;) {
    try {
      const roots = await read()
      const found = roots.map(({ raw }) => hash('sha256', raw)).toSorted().join()
      if (said !== undefined) log.info('the upstream authority\'s files can be used again')
      said = undefined
      if (found !== shown) yield { x509Authorities: trusted(roots), jwtAuthorities: [], complete: false }
      shown = found
    } catch (error) {
      if (!(error instanceof SpiffeError)) throw error
      if (error.message !== said) log.warn({ err: error }, 'the upstream authority\'s files cannot be used; what they held before stays')
      said = error.message
    }
    await clock.sleep(lookEveryMs, signal)
  }
}
