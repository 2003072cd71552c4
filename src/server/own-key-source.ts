import type { KeySource } from '../oidc/key-source.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Bundle } from '../spiffe/bundle.ts'

export interface OwnKeySourceDeps {
  readonly ownBundle: { readonly value: Bundle }
  readonly replica: { requireFresh (): void }
  readonly everyMs: number
  readonly clock: Clock
}

/** The JWT keys of a server that publishes them itself. A replica that has not seen the database for long confirms nothing. */
export function ownKeySource ({ ownBundle, replica, everyMs, clock }: OwnKeySourceDeps): KeySource {
  return {
    name: 'own_bundle',
    async * follow (signal) {
      for (;;) {
        replica.requireFresh()
        yield ownBundle.value.jwtAuthorities
        await clock.sleep(everyMs, signal)
      }
    }
  }
}
