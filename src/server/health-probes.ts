import { generateKeyPairSync } from 'node:crypto'
import { openUnixChannel } from '../rpc/channel.ts'
import type { Clock } from '../runtime/clock.ts'
import { remembered, type Probe } from '../runtime/health-checks.ts'
import { parseSpiffeId } from '../spiffe/spiffe-id.ts'
import type { TrustDomain } from '../spiffe/trust-domain.ts'
import type { Datastore } from '../storage/datastore.ts'
import { bundleService } from '../wire/generated/server-bundle.ts'
import type { Authorities } from './authorities.ts'

/** SPIRE's names of what it looks at, and the key under which it says what is wrong there (spire-surface §6.4). */
export const serverSubsystems = {
  server: 'get_bundle_err', 'server.ca': 'sign_x509_svid_err', 'server.ca.rotator': 'rotation_err', 'catalog.datastore': 'list_bundle_err'
} as const

export interface HealthProbeDeps {
  readonly trustDomain: TrustDomain
  readonly socketPath: string
  readonly authorities: Authorities
  readonly store: Datastore
  readonly clock: Clock
}

const answerTimeoutMs = 10_000
/** In a row; they are tried every 10 s. */
const mostFailedRotations = 10

/** Looks at what SPIRE's server looks at: its own API, whether it can sign, whether its authorities are replaced, and the database. */
export function serverProbes (deps: HealthProbeDeps): Readonly<Record<keyof typeof serverSubsystems, Probe>> {
  const { trustDomain, socketPath, authorities, store, clock } = deps
  const id = parseSpiffeId(`spiffe://${trustDomain}/for/health/check/only`)
  const publicKey = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'der' })
  return {
    // Anybody may ask, and these cost something: a call, and a signature by a key that may be elsewhere.
    server: remembered(async () => {
      await using channel = openUnixChannel(socketPath)
      await channel.client(bundleService).getBundle({}, { timeoutMs: answerTimeoutMs })
    }, clock),
    'server.ca': remembered(() => authorities.ca.trySigning(id, publicKey), clock),
    'server.ca.rotator': () => {
      const { failedRotations } = authorities
      if (failedRotations > mostFailedRotations) throw new Error(`authorities could not be rotated ${failedRotations} times in a row`)
    },
    'catalog.datastore': () => store.ping()
  }
}
