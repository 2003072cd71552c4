import { hash } from 'node:crypto'
import type { Clock } from '../runtime/clock.ts'
import type { Bundle, JwtAuthority, X509Authority } from '../spiffe/bundle.ts'
import {
  appendAuthorities, removeJwtAuthority, removeX509Authority, taintJwtAuthority, taintX509Authority
} from '../spiffe/bundle-change.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { parseCertificate, type Certificate } from '../x509/certificate.ts'
import { parsePublicKey } from '../x509/public-key.ts'
import type { AuthorityJournal, AuthorityRecord, AuthorityWriter } from './authority-record.ts'
import type { OwnBundle } from './own-bundle.ts'
import type { UpstreamTrust } from './upstream-authority.ts'

export interface UpstreamRootsDeps {
  readonly journal: AuthorityJournal
  readonly bundle: OwnBundle
  readonly clock: Clock
}

/** Of one kind, of one upstream. */
const maxAuthorities = 500
/** A key whose end the upstream does not tell; it leaves when the upstream names it no more. */
const noEnd = new Date('9999-12-31T23:59:59Z')

/**
 * What an upstream has this trust domain trust, and has had: known by the journal, so that a root that was revoked here does not come back
 * with the upstream's next word, and one that the upstream drops is told from one that an operator added. States: `active`; `tainted`, for
 * good; `old`, dropped by the upstream and welcome back; `revoked` by an operator, for good.
 */
export class UpstreamRoots {
  readonly #deps: UpstreamRootsDeps
  #records: readonly AuthorityRecord[] = []
  #lastChange: Promise<void> = Promise.resolve()

  private constructor (deps: UpstreamRootsDeps) { this.#deps = deps }

  static async open (deps: UpstreamRootsDeps): Promise<UpstreamRoots> {
    const roots = new UpstreamRoots(deps)
    await roots.reload()
    return roots
  }

  async reload (): Promise<void> { await this.#change(async () => {}) }

  /** One change after the other, each on what the journal says by then: nested servers publish keys while the upstream is followed. */
  async #change (work: () => Promise<void>): Promise<void> {
    const { journal } = this.#deps
    const change = this.#lastChange.then(async () => {
      this.#records = [...await journal.list('upstream-x509'), ...await journal.list('upstream-jwt')]
      await work()
    })
    this.#lastChange = change.catch(() => {})
    await change
  }

  /** Roots with this key, trusted or not. @param subjectKeyId hex */
  withKey (subjectKeyId: string): readonly AuthorityRecord[] {
    return this.#records.filter(record => record.kind === 'upstream-x509' && record.upstreamAuthorityId === subjectKeyId)
  }

  get isEmpty (): boolean { return this.#records.length === 0 }

  /** The bundle with all that is trusted; nothing is taken out. */
  publish (bundle: Bundle): Bundle {
    return this.#records.reduce((bundle, record) => this.#isShown(record) ? show(bundle, record) : bundle, bundle)
  }

  /** Takes over what the upstream says. @param own key IDs that are this trust domain's own and so not the upstream's to drop */
  async apply (trust: UpstreamTrust, writer: AuthorityWriter, own: ReadonlySet<string> = new Set()): Promise<void> {
    const named = [...trust.x509Authorities.map(readX509), ...trust.jwtAuthorities.filter(({ keyId }) => !own.has(keyId)).map(readJwt)]
    await this.#change(async () => {
      const known = new Map(this.#records.map(record => [nameOf(record), record]))
      const next = new Map(named.map(record => [nameOf(record), merged(known.get(nameOf(record)), record)]))
      for (const [name, record] of known) {
        if (!next.has(name)) next.set(name, trust.complete && isTrusted(record) ? { ...record, state: 'old' } : record)
      }
      await this.#save([...next.values()], writer)
    })
  }

  /** @throws {SpiffeError} `authority_unknown` */
  async taint (subjectKeyId: string, writer: AuthorityWriter): Promise<void> {
    await this.#turn(subjectKeyId, writer, record => record.state === 'active' ? { ...record, state: 'tainted' } : record)
  }

  /** @throws {SpiffeError} `authority_unknown`, `authority_not_tainted` */
  async revoke (subjectKeyId: string, writer: AuthorityWriter): Promise<void> {
    await this.#turn(subjectKeyId, writer, record => {
      if (record.state === 'active') throw new SpiffeError('authority_not_tainted', 'the upstream authority is not tainted')
      return { ...record, state: 'revoked' }
    })
  }

  async #turn (subjectKeyId: string, writer: AuthorityWriter, change: (record: AuthorityRecord) => AuthorityRecord): Promise<void> {
    await this.#change(async () => {
      const turned = this.withKey(subjectKeyId).filter(({ state }) => state !== 'revoked')
      if (turned.length === 0) throw new SpiffeError('authority_unknown', `no upstream authority has the subject key ID "${subjectKeyId}"`)
      await this.#save(this.#records.map(record => turned.includes(record) ? change(record) : record), writer)
    })
  }

  /** Writes what differs; where nothing does, nothing. */
  async #save (records: readonly AuthorityRecord[], { journal }: AuthorityWriter): Promise<void> {
    for (const kind of ['upstream-x509', 'upstream-jwt']) {
      if (records.filter(record => record.kind === kind && this.#isShown(record)).length > maxAuthorities) {
        throw new SpiffeError('upstream_invalid', `more than ${maxAuthorities} of ${kind} authorities`)
      }
    }
    const changed = records.filter(record => !this.#records.includes(record))
    const publish = (bundle: Bundle) => records.reduce((bundle, record) => {
      if (this.#isShown(record)) return show(bundle, record)
      // What was out already was put back by somebody else, if at all.
      return changed.includes(record) && !isTrusted(record) ? hide(bundle, record) : bundle
    }, bundle)
    const { bundle: own } = this.#deps
    const shown = own.value
    if (changed.length === 0 && publish(shown) === shown) return
    own.show(await journal.save(changed, publish))
    this.#records = records
  }

  /** What has ended is taken out of the bundle by whoever prunes it, and not put back, though an upstream names it for days. */
  #isShown (record: AuthorityRecord): boolean { return isTrusted(record) && record.notAfter > this.#deps.clock.now() }
}

/** Hex; by RFC 5280 §4.2.1.2 (1) where the certificate does not say. */
export function subjectKeyIdOf ({ subjectKeyId, publicKey }: Certificate): string {
  return Buffer.from(subjectKeyId ?? hash('sha1', parsePublicKey(publicKey).keyBits, 'buffer')).toString('hex')
}

function isTrusted ({ state }: AuthorityRecord): boolean { return state === 'active' || state === 'tainted' }

function nameOf ({ kind, authorityId }: AuthorityRecord): string { return `${kind} ${authorityId}` }

/** The record that is there, where the upstream says nothing new: callers tell changes by identity. */
function merged (known: AuthorityRecord | undefined, named: AuthorityRecord): AuthorityRecord {
  if (known === undefined) return named
  if (known.state === 'revoked' || known.state === 'tainted' || known.state === named.state) return known
  return { ...known, state: named.state }
}

function readX509 ({ certificate: der, tainted }: X509Authority): AuthorityRecord {
  const certificate = reading(() => parseCertificate(der))
  return {
    authorityId: hash('sha256', der, 'hex'), kind: 'upstream-x509', slot: 'A', state: tainted ? 'tainted' : 'active', certificate: der,
    publicKey: certificate.publicKey, notBefore: certificate.notBefore, notAfter: certificate.notAfter,
    upstreamAuthorityId: reading(() => subjectKeyIdOf(certificate))
  }
}

function readJwt ({ keyId, publicKey, expiresAt, tainted }: JwtAuthority): AuthorityRecord {
  return {
    authorityId: keyId, kind: 'upstream-jwt', slot: 'A', state: tainted ? 'tainted' : 'active', publicKey,
    notBefore: new Date(0), notAfter: expiresAt ?? noEnd
  }
}

function reading<T> (read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw new SpiffeError('upstream_invalid', `a root of the upstream cannot be used: ${error.message}`, { cause: error })
  }
}

function show (bundle: Bundle, record: AuthorityRecord): Bundle {
  const tainted = record.state === 'tainted'
  if (record.certificate === undefined) {
    const { authorityId: keyId, publicKey, notAfter } = record
    const expiresAt = notAfter < noEnd ? notAfter : undefined
    const shown = appendAuthorities(bundle, { jwtAuthorities: [{ keyId, publicKey, expiresAt, tainted }] })
    return tainted ? taintJwtAuthority(shown, keyId) : shown
  }
  const shown = appendAuthorities(bundle, { x509Authorities: [{ certificate: record.certificate, tainted }] })
  return tainted ? taintX509Authority(shown, record.certificate) : shown
}

function hide (bundle: Bundle, record: AuthorityRecord): Bundle {
  return record.certificate === undefined ? removeJwtAuthority(bundle, record.authorityId) : removeX509Authority(bundle, record.certificate)
}
