import { createLocalJWKSet, type JSONWebKeySet, jwtVerify, decodeProtectedHeader } from 'jose'
import t from 'tap'
import type { AuthorityRecord } from '../../src/ca/authority-record.ts'
import { CertificateAuthority } from '../../src/ca/certificate-authority.ts'
import { emptyBundle } from '../../src/ca/own-bundle.ts'
import { createMemoryKeyManager } from '../../src/keys/memory/memory-key-manager.ts'
import { PublishedKeys } from '../../src/oidc/published-keys.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseTrustDomain } from '../../src/spiffe/trust-domain.ts'
import { ManualClock } from '../fakes/clock.ts'
import { idOf } from '../fakes/entries.ts'

const domain = parseTrustDomain('example.org')
const [minute, day] = [60_000, 86_400_000]
const audience = ['vault']

/** Our server's own rotation, in memory. */
async function openAuthority (clock: ManualClock) {
  const records = new Map<string, AuthorityRecord>()
  let bundle: Bundle | undefined
  const journal = {
    list: async (kind: AuthorityRecord['kind']) => [...records.values()].filter(record => record.kind === kind),
    async save (saved: readonly AuthorityRecord[], publish: (before: Bundle) => Bundle) {
      bundle = publish(bundle ?? emptyBundle(domain))
      for (const record of saved) records.set(record.authorityId, record)
      return bundle
    }
  }
  const bundles = {
    get: async () => bundle,
    async update (_domain: unknown, change: (before: Bundle | undefined) => Bundle) {
      bundle = change(bundle)
      return bundle
    }
  }
  const keys = createMemoryKeyManager()
  const authority = await CertificateAuthority.open({
    trustDomain: domain, caTtlSeconds: day / 1_000, caKeyType: 'ec-p256', jwtKeyType: 'ec-p256', disableJwtSvids: false,
    caSubject: { country: [], organization: [], commonName: '' }
  }, { keys, journal, bundles, clock, log: silentLogger })
  return { authority, rotate: () => authority.rotateIfDue({ journal, keys }) }
}

interface Copy { readonly jwks: JSONWebKeySet, readonly fetchedAtMs: number, readonly maxAgeMs: number }

/** Consumers who keep copies for so many times what they are told. */
class Keepers {
  readonly #times: number
  #copies: readonly Copy[] = []
  /** Copies that lacked the key of a token, over all tokens. */
  missing = 0

  constructor (times: number) { this.#times = times }

  get oldest (): Copy { return this.#copies[0] as Copy }

  see (copy: Copy): void {
    this.#copies = [...this.#copies, copy].filter(({ fetchedAtMs, maxAgeMs }) => fetchedAtMs + maxAgeMs * this.#times >= copy.fetchedAtMs)
  }

  check (kid: string | undefined): void {
    this.missing += this.#copies.filter(({ jwks }) => !jwks.keys.some(key => key.kid === kid)).length
  }
}

void t.test('a key is published before it is used: every token verifies by every copy that may still be kept', async t => {
  const clock = new ManualClock('2026-01-01T00:00:00Z')
  const { authority, rotate } = await openAuthority(clock)
  await rotate()
  // As lazy as a provider may be, and no cap: what follows from the keys' own lives must do.
  const published = new PublishedKeys({ clock, setKeyUse: false, staleMaxMs: day, cacheMaxSeconds: day / 1_000, pollMs: 30 * minute })
  const [told, careless] = [new Keepers(1), new Keepers(3)]
  const kids = new Set<string | undefined>()
  let longestMs = 0
  for (let step = 0; step < 4 * 24 * 12; step++) {
    await rotate()
    if (step % 6 === 0) published.take(authority.bundle.value.jwtAuthorities)
    const answer = published.read()
    if (answer.kind !== 'keys') throw new Error(answer.kind)
    const jwks = JSON.parse(String(answer.document.body)) as JSONWebKeySet
    const copy: Copy = { jwks, fetchedAtMs: clock.now().getTime(), maxAgeMs: answer.maxAgeSeconds * 1_000 }
    longestMs = Math.max(longestMs, copy.maxAgeMs)
    const { token } = await authority.issueJwtSvid({ id: idOf('/web'), audience, ttlSeconds: 300 })
    const { kid } = decodeProtectedHeader(token)
    kids.add(kid)
    for (const keepers of [told, careless]) {
      keepers.see(copy)
      keepers.check(kid)
    }
    const { payload } = await jwtVerify(token, createLocalJWKSet(told.oldest.jwks), { audience, currentDate: clock.now() })
    if (payload.sub !== 'spiffe://example.org/web') throw new Error('another subject')
    await clock.advance(5 * minute)
  }
  t.equal(told.missing, 0, 'no copy lacked the key of a token')
  t.ok(kids.size >= 8, `${kids.size} keys signed in four days`)
  t.ok(longestMs > 60 * minute, `copies were kept for up to ${longestMs / minute} minutes`)
  t.ok(careless.missing > 0, 'copies that are kept three times as long do lack keys: the measure is not idle')
})
