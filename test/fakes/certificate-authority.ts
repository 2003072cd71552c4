import { createPublicKey } from 'node:crypto'
import type { AuthorityJournal, AuthorityRecord } from '../../src/ca/authority-record.ts'
import type { CaEvents } from '../../src/ca/ca-events.ts'
import { CertificateAuthority, type CertificateAuthorityOptions } from '../../src/ca/certificate-authority.ts'
import { emptyBundle, type BundleJournal } from '../../src/ca/own-bundle.ts'
import type { KeyManager } from '../../src/keys/key-manager.ts'
import type { Clock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain, type TrustDomain } from '../../src/spiffe/trust-domain.ts'
import { newKey } from './agent-client.ts'
import { idOf } from './entries.ts'

export const domain = parseTrustDomain('example.org')
export const day = 86_400_000

export const caOptions: CertificateAuthorityOptions = {
  trustDomain: domain,
  caTtlSeconds: day / 1000,
  caKeyType: 'ec-p256',
  jwtKeyType: 'ec-p256',
  caSubject: { country: ['US'], organization: ['SPIFFE'], commonName: '' },
  disableJwtSvids: false
}

/** Journals in memory that note the order of writes. */
export function memoryJournals () {
  const events: string[] = []
  const records = new Map<string, AuthorityRecord>()
  let bundle: Bundle | undefined
  const journal: AuthorityJournal = {
    list: async kind => [...records.values()].filter(record => record.kind === kind),
    async save (saved, publish) {
      const before = bundle ?? emptyBundle(domain)
      bundle = publish(before)
      if (bundle.sequenceNumber !== before.sequenceNumber) events.push(`bundle ${bundle.sequenceNumber}`)
      for (const record of saved) {
        events.push(`${record.kind} ${record.state}`)
        records.set(`${record.kind} ${record.authorityId}`, record)
      }
      return bundle
    }
  }
  const bundles: BundleJournal = {
    get: async () => bundle,
    async update (_domain: TrustDomain, change) {
      const next = change(bundle)
      if (next.sequenceNumber !== bundle?.sequenceNumber) events.push(`bundle ${next.sequenceNumber}`)
      bundle = next
      return next
    }
  }
  return { events, records, journal, bundles, bundle: () => bundle as Bundle }
}

type Journals = ReturnType<typeof memoryJournals>

/** One that signs at once. */
export async function openAuthority (
  journals: Journals, keys: KeyManager, clock: Clock, more: Partial<CertificateAuthorityOptions> = {}, events?: CaEvents
) {
  const { journal, bundles } = journals
  const authority = await CertificateAuthority.open({ ...caOptions, ...more }, { keys, journal, bundles, events, clock, log: silentLogger })
  const writer = { journal, keys }
  await authority.rotateIfDue(writer)
  return Object.assign(authority, { writer, rotate: () => authority.rotateIfDue(writer) })
}

/** SPKI, DER, of a key that is made for it. */
export const newPublicKey = () => createPublicKey(newKey()).export({ format: 'der', type: 'spki' })
/** An SVID of a key of its own. */
export const x509Order = () => ({ id: idOf('/web'), publicKey: newPublicKey(), dnsNames: [], ttlSeconds: 3600 })
