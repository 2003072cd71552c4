import { X509Certificate } from 'node:crypto'
import type { RegoObject } from '../rego-value.ts'
import { NoValue, toInteger } from './operand.ts'

const maxCertificates = 100
const nameFields: Readonly<Record<string, string>> = {
  C: 'Country', O: 'Organization', OU: 'OrganizationalUnit', L: 'Locality', ST: 'Province', street: 'StreetAddress',
  postalCode: 'PostalCode'
}

/**
 * @param text PEM, or DER or PEM in base64, one certificate after another
 * @throws {NoValue} not a certificate
 */
export function readCertificates (text: string): X509Certificate[] {
  const plain = text.includes('-----BEGIN') ? text : Buffer.from(text, 'base64').toString('latin1')
  const blocks = plain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g)
  try {
    const certificates = blocks === null
      ? splitDer(Buffer.from(text, 'base64'))
      : blocks.slice(0, maxCertificates + 1).map(block => new X509Certificate(block))
    if (certificates.length > 0 && certificates.length <= maxCertificates) return certificates
  } catch {
    // Said below.
  }
  throw new NoValue()
}

/** Certificates of DER that stand one behind the other. */
function splitDer (der: Buffer): X509Certificate[] {
  const found: X509Certificate[] = []
  for (let at = 0; at < der.length && found.length <= maxCertificates;) {
    const certificate = new X509Certificate(der.subarray(at))
    found.push(certificate)
    at += certificate.raw.length
  }
  return found
}

/** The fields of Go's `x509.Certificate` that policies ask for, under Go's names. */
export function describeCertificate (certificate: X509Certificate): RegoObject {
  const names = alternativeNames(certificate.subjectAltName)
  return {
    Subject: describeName(certificate.subject), Issuer: describeName(certificate.issuer),
    SerialNumber: toInteger(BigInt(`0x${certificate.serialNumber}`)),
    NotBefore: goTime(certificate.validFromDate), NotAfter: goTime(certificate.validToDate),
    DNSNames: orNull(names('DNS')), EmailAddresses: orNull(names('email')), IPAddresses: orNull(names('IP Address')),
    URIStrings: orNull(names('URI')),
    IsCA: certificate.ca, Raw: certificate.raw.toString('base64')
  }
}

function orNull (values: readonly string[]): readonly string[] | null { return values.length === 0 ? null : values }

function goTime (date: Date): string { return date.toISOString().replace('.000Z', 'Z') }

/** @param text lines such as `CN=name`, as Node prints them */
function describeName (text: string | undefined): RegoObject {
  const described: Record<string, string | string[] | null> = {
    CommonName: '', SerialNumber: '', ...Object.fromEntries(Object.values(nameFields).map(field => [field, null]))
  }
  for (const line of (text ?? '').split('\n')) {
    const at = line.indexOf('=')
    const [type, value] = [line.slice(0, at), line.slice(at + 1)]
    const field = nameFields[type]
    if (type === 'CN') described['CommonName'] = value
    else if (type === 'serialNumber') described['SerialNumber'] = value
    else if (field !== undefined) described[field] = [described[field] ?? [], value].flat()
  }
  return described
}

/** Node prints them as `DNS:a, URI:"quoted"`, with JSON's quotes around what holds a comma or a quote. */
function alternativeNames (text: string | undefined): (type: string) => string[] {
  const found: [string, string][] = []
  for (const [, type = '', quoted, bare = ''] of (text ?? '').matchAll(/(?:^|, )([A-Za-z ]+):(?:("(?:[^"\\]|\\.)*")|([^,]*))/g)) {
    found.push([type, quoted === undefined ? bare : JSON.parse(quoted) as string])
  }
  return type => found.filter(([other]) => other === type).map(([, value]) => value)
}
