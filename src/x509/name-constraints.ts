import { isIP } from 'node:net'
import { DerError, noContent, type DerReader } from './der-reader.ts'
import { contextTag, derTag } from './der-tag.ts'
import { ascii, nameTag, type GeneralNames } from './general-names.ts'
import { parseName } from './name.ts'

type Form = 'uri' | 'dns' | 'email' | 'ip' | 'directory'

interface Subtree {
  readonly form: Form | undefined
  /** Text in lower case (uri, dns, email), address and mask (ip), or Name in DER (directory). */
  readonly base: string | Uint8Array
}

/** RFC 5280 §4.2.1.10. */
export interface NameConstraints {
  readonly permitted: readonly Subtree[]
  readonly excluded: readonly Subtree[]
}

/** The names of a certificate that constraints of its issuers apply to. */
export interface ConstrainedNames {
  /** Name, DER. */
  readonly subjectDer: Uint8Array
  readonly subjectAltNames: GeneralNames
}

const formOfTag: ReadonlyMap<number, Form> = new Map([
  [nameTag.uri, 'uri'], [nameTag.dns, 'dns'], [nameTag.email, 'email'], [nameTag.ip, 'ip'], [nameTag.directory, 'directory']
])

/** @param reader inside the SEQUENCE. @throws {DerError} */
export function readNameConstraints (reader: DerReader): NameConstraints {
  const permitted = readSubtrees(reader.enterOptional(contextTag(0, 'constructed')) ?? noContent)
  const excluded = readSubtrees(reader.enterOptional(contextTag(1, 'constructed')) ?? noContent)
  reader.finish()
  if (permitted.length + excluded.length === 0) throw new DerError('name constraints without a subtree')
  return { permitted, excluded }
}

/**
 * What of the names is outside the constraints, for people; `undefined` if all are within. A name that constraints are there for but
 * that cannot be compared is outside (RFC 5280 §4.2.1.10, last paragraph but three).
 */
export function nameOutside (constraints: NameConstraints, { subjectDer, subjectAltNames: names }: ConstrainedNames): string | undefined {
  const { permitted, excluded } = constraints
  if ([...permitted, ...excluded].some(({ form }) => form === undefined)) return 'the constraints have a form that is not understood'
  const directories = [...parseName(subjectDer).length > 0 ? [subjectDer] : [], ...names.directoryNames]
  const all: [Form, readonly (string | Uint8Array)[]][] = [
    ['uri', names.uris], ['dns', names.dnsNames], ['email', names.emails], ['ip', names.ipAddresses], ['directory', directories]
  ]
  for (const [form, values] of all) {
    const isOfForm = (subtree: Subtree) => subtree.form === form
    const mayBe = permitted.filter(isOfForm)
    const mustNotBe = excluded.filter(isOfForm)
    for (const value of values) {
      const matches = ({ base }: Subtree) => isWithin(form, value, base)
      if (mustNotBe.some(subtree => matches(subtree) !== false)) return `${form} ${show(value)} is excluded`
      if (mayBe.length > 0 && !mayBe.some(subtree => matches(subtree) === true)) return `${form} ${show(value)} is not permitted`
    }
  }
  return undefined
}

/** @returns `undefined` when it cannot be told */
function isWithin (form: Form, name: string | Uint8Array, base: string | Uint8Array): boolean | undefined {
  if (typeof name === 'string' && typeof base === 'string') {
    switch (form) {
      case 'uri': return isUriWithin(name, base)
      case 'dns': return isDomainWithin(name.toLowerCase().replace(/^\*\./, ''), base)
      default: return undefined
    }
  }
  if (typeof name === 'string' || typeof base === 'string') return undefined
  return form === 'ip' ? isIpWithin(name, base) : isDirectoryWithin(name, base)
}

/** A host as it stands, or with a leading dot any host below; nothing means every host. An IP address cannot be compared. */
function isUriWithin (uri: string, base: string): boolean | undefined {
  const authority = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(uri)?.[1]
  const host = authority?.replace(/^.*@/, '').replace(/:\d*$/, '').toLowerCase()
  if (host === undefined || host === '' || host.startsWith('[') || isIP(host) !== 0) return undefined
  return base === '' || (base.startsWith('.') ? host.endsWith(base) && host.length > base.length : host === base)
}

/** The domain itself and everything below; with a leading dot only what is below. */
function isDomainWithin (name: string, base: string): boolean {
  if (base === '') return true
  return base.startsWith('.') ? name.endsWith(base) && name.length > base.length : name === base || name.endsWith(`.${base}`)
}

function isIpWithin (address: Uint8Array, base: Uint8Array): boolean {
  if (base.length !== 2 * address.length) return false
  return address.every((octet, index) => ((octet ^ base[index]!) & base[address.length + index]!) === 0)
}

function isDirectoryWithin (name: Uint8Array, base: Uint8Array): boolean {
  const rdns = parseName(name)
  return parseName(base).every((rdn, index) => rdns[index] !== undefined && Buffer.compare(rdn, rdns[index]) === 0)
}

function readSubtrees (subtrees: DerReader): Subtree[] {
  const list: Subtree[] = []
  while (!subtrees.isDone) {
    const subtree = subtrees.enter(derTag.sequence)
    const form = formOfTag.get(subtree.nextTag ?? 0)
    const base = readBase(subtree, form)
    // `minimum` is 0 by default and `maximum` absent: nothing else is in use.
    subtree.finish()
    list.push({ form, base })
  }
  return list
}

function readBase (subtree: DerReader, form: Form | undefined): string | Uint8Array {
  const tag = subtree.nextTag ?? 0
  if (form === undefined) return subtree.readWhole()
  const content = subtree.read(tag)
  switch (form) {
    case 'directory': parseName(content); return content
    case 'ip':
      if (content.length !== 8 && content.length !== 32) throw new DerError(`IP address and mask of ${content.length} bytes`)
      return content
    default: return ascii(content).toLowerCase()
  }
}

function show (value: string | Uint8Array): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 260)) : Buffer.from(value).toString('hex').slice(0, 260)
}
