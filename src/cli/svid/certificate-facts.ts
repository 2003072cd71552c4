import { createHash, createPublicKey, X509Certificate } from 'node:crypto'
import { parseCertificate } from '../../x509/certificate.ts'
import { oid } from '../../x509/oid.ts'
import { formatRows, formatTime } from '../pretty.ts'

export interface CertificateFacts {
  readonly subject: string
  readonly issuer: string
  readonly serialNumber: string
  readonly notBefore: Date
  readonly notAfter: Date
  readonly isCa: boolean
  readonly pathLength: number | undefined
  readonly publicKey: string
  readonly keyUsage: readonly string[] | undefined
  readonly extendedKeyUsage: readonly string[] | undefined
  readonly uriSans: readonly string[]
  readonly dnsSans: readonly string[]
  readonly subjectKeyId: string | undefined
  readonly authorityKeyId: string | undefined
  /** Of the DER, hex. */
  readonly sha256: string
}

/** Names of extended key usages; others are shown as they are. */
const purposes: Readonly<Record<string, string>> = {
  [oid.serverAuth]: 'serverAuth', [oid.clientAuth]: 'clientAuth', [oid.anyExtendedKeyUsage]: 'any'
}

/** @throws {SpiffeError} `certificate_malformed` */
export function certificateFacts (der: Uint8Array): CertificateFacts {
  const certificate = parseCertificate(der)
  const { subject, issuer } = namesOf(der)
  return {
    subject,
    issuer,
    serialNumber: certificate.serialNumber,
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    isCa: certificate.isCa,
    pathLength: certificate.pathLength,
    publicKey: describeKey(certificate.publicKey),
    keyUsage: certificate.keyUsage && [...certificate.keyUsage],
    extendedKeyUsage: certificate.extendedKeyUsage && [...certificate.extendedKeyUsage].map(purpose => purposes[purpose] ?? purpose),
    uriSans: certificate.uriSans,
    dnsSans: certificate.dnsSans,
    subjectKeyId: hex(certificate.subjectKeyId),
    authorityKeyId: hex(certificate.authorityKeyId),
    sha256: createHash('sha256').update(der).digest('hex')
  }
}

export function formatCertificateFacts (facts: CertificateFacts, index: number): string {
  return `Certificate ${index + 1}\n${formatRows([
    ['  Subject', facts.subject === '' ? '(empty)' : facts.subject],
    ['  Issuer', facts.issuer === '' ? '(empty)' : facts.issuer],
    ['  Serial number', facts.serialNumber],
    ['  Valid after', formatTime(facts.notBefore)],
    ['  Valid until', formatTime(facts.notAfter)],
    ['  CA', facts.isCa ? `true${facts.pathLength === undefined ? '' : `, path length ${facts.pathLength}`}` : 'false'],
    ['  Public key', facts.publicKey],
    ['  Key usage', facts.keyUsage?.join(', ')],
    ['  Extended key usage', facts.extendedKeyUsage?.join(', ')],
    ...facts.uriSans.map(uri => ['  URI SAN', uri] as const),
    ...facts.dnsSans.map(name => ['  DNS SAN', name] as const),
    ['  Subject key ID', facts.subjectKeyId],
    ['  Authority key ID', facts.authorityKeyId],
    ['  SHA-256', facts.sha256]
  ], 21)}`
}

function namesOf (der: Uint8Array): { subject: string, issuer: string } {
  const { subject, issuer } = new X509Certificate(der)
  // An empty name is undefined, whatever the types say.
  const oneLine = (name: string | undefined) => (name ?? '').split('\n').join(', ')
  return { subject: oneLine(subject), issuer: oneLine(issuer) }
}

function describeKey (spki: Uint8Array): string {
  const key = createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  return type === 'ec' ? `EC ${details?.namedCurve}` : type === 'rsa' ? `RSA ${details?.modulusLength}` : `${type}`
}

function hex (bytes: Uint8Array | undefined): string | undefined {
  return bytes && Buffer.from(bytes).toString('hex')
}
