import { checkField } from './check-field.ts'
import { checkDnsName } from './dns-name.ts'
import type { EntryDraft } from './entry.ts'
import { checkEntryId } from './entry-id.ts'
import { SpiffeError } from './errors.ts'
import { checkMemberId, checkWorkloadId } from './member-id.ts'
import { checkSelector, normalizeSelectors, type Selector } from './selector.ts'
import { parseSpiffeId, parseTrustDomainOrId } from './spiffe-id.ts'
import { isStorableText } from './storable-text.ts'
import { checkForeign, type TrustDomain } from './trust-domain.ts'

/** An entry as somebody sent it: IDs and trust domains are still text. */
export type RawEntryDraft = Omit<EntryDraft, 'spiffeId' | 'parentId' | 'federatesWith'> & {
  readonly spiffeId: string
  readonly parentId: string
  /** Names, or IDs in them. */
  readonly federatesWith: readonly string[]
}

/** The longest hint that the Workload API supports, in bytes (WLAPI-37). */
const maxHintBytes = 1024
const maxTtlSeconds = 2 ** 31 - 1

/**
 * Reads an entry for this trust domain. Messages are SPIRE's where it has one, since clients match on them.
 * @param raw `id` may be empty: the store then chooses one
 * @returns selectors normalised, `federatesWith` without repeats, DNS names in the given order
 * @throws {SpiffeError} `entry_malformed`, for the first field at fault
 */
export function checkEntry (raw: RawEntryDraft, trustDomain: TrustDomain): EntryDraft {
  const parentId = field('invalid parent ID', () => checkMemberId(parseSpiffeId(raw.parentId), trustDomain))
  const spiffeId = field('invalid spiffe ID', () => checkWorkloadId(parseSpiffeId(raw.spiffeId), trustDomain))
  checkDnsNames(raw.dnsNames)
  checkExpiry(raw.expiresAtSeconds)
  const federatesWith = raw.federatesWith.map(text => field('invalid federated trust domain', () => parseForeign(text, trustDomain)))
  const selectors = normalizeSelectors(raw.selectors.map(selector => field('', () => checkSelector(selector))))
  if (selectors.length === 0) throw malformed('selector list is empty')
  checkHint(raw.hint)
  checkStoreSvid(raw, selectors)
  if (raw.id !== '') checkEntryId(raw.id)
  checkTtl('X509SvidTtl', raw.x509SvidTtlSeconds)
  checkTtl('JwtSvidTtl', raw.jwtSvidTtlSeconds)
  return { ...raw, parentId, spiffeId, selectors, federatesWith: [...new Set(federatesWith)] }
}

function parseForeign (text: string, own: TrustDomain): TrustDomain {
  return checkForeign(parseTrustDomainOrId(text), own)
}

function checkDnsNames (names: readonly string[]): void {
  for (const [index, name] of names.entries()) {
    field('invalid DNS name', () => checkDnsName(name))
    if (names.indexOf(name) !== index) throw malformed(`invalid DNS name: repeated: ${JSON.stringify(name)}`)
  }
}

function checkExpiry (seconds: number): void {
  if (!Number.isSafeInteger(seconds) || seconds < 0) throw malformed(`invalid expiry: ${seconds} is no Unix time in seconds`)
}

function checkHint (hint: string): void {
  if (Buffer.byteLength(hint) > maxHintBytes) throw malformed('hint is too long, max length is 1024 characters')
  if (!isStorableText(hint)) throw malformed('hint contains U+0000 or a lone surrogate')
}

function checkStoreSvid ({ storeSvid, additionalAttributes }: RawEntryDraft, selectors: readonly Selector[]): void {
  if (!storeSvid) return
  if (selectors.some(({ type }) => type !== selectors[0]!.type)) {
    throw malformed('invalid registration entry: selector types must be the same when store SVID is enabled')
  }
  if (additionalAttributes.disableX509SvidPrefetch) {
    throw malformed('invalid registration entry: store SVID cannot be combined with disable X509-SVID prefetch')
  }
}

function checkTtl (name: 'X509SvidTtl' | 'JwtSvidTtl', seconds: number): void {
  if (!Number.isSafeInteger(seconds) || seconds < 0 || seconds > maxTtlSeconds) {
    throw malformed(`invalid registration entry: ${name} is not set`)
  }
}

function field<T> (prefix: string, check: () => T): T { return checkField('entry_malformed', prefix, check) }

function malformed (message: string): SpiffeError {
  return new SpiffeError('entry_malformed', message)
}
