import { createHash, createHmac, timingSafeEqual, X509Certificate } from 'node:crypto'
import { describeCertificate, readCertificates } from './certificates.ts'
import { textOf, type Builtin } from './operand.ts'

const hashes = ['md5', 'sha1', 'sha256'] as const
const macs = ['md5', 'sha1', 'sha256', 'sha512'] as const
const maxChain = 10

export const cryptoBuiltins: Readonly<Record<string, Builtin>> = {
  ...Object.fromEntries(hashes.map(name => [`crypto.${name}`,
    ([text]) => createHash(name).update(textOf(text)).digest('hex')] satisfies [string, Builtin])),
  ...Object.fromEntries(macs.map(name => [
    `crypto.hmac.${name}`, ([text, key]) => createHmac(name, textOf(key)).update(textOf(text)).digest('hex')
  ] satisfies [string, Builtin])),
  'crypto.hmac.equal': ([a, b]) => {
    const [left, right] = [Buffer.from(textOf(a)), Buffer.from(textOf(b))]
    return left.length === right.length && timingSafeEqual(left, right)
  },
  'crypto.x509.parse_certificates': ([text]) => readCertificates(textOf(text)).map(describeCertificate),
  'crypto.x509.parse_and_verify_certificates': ([text], { timeNs }) => {
    const chain = verifiedChain(textOf(text), new Date(Number(timeNs / 1_000_000n)))
    return chain === undefined ? [false, []] : [true, chain.map(describeCertificate)]
  }
}

/**
 * @param text certificates, the root first, then those in between, the leaf last
 * @returns the chain, leaf first
 */
function verifiedChain (text: string, now: Date): X509Certificate[] | undefined {
  let certificates: X509Certificate[]
  try {
    certificates = readCertificates(text).toReversed()
  } catch {
    return undefined
  }
  if (certificates.length < 2 || certificates.length > maxChain) return undefined
  const holds = certificates.every((certificate, index) => {
    const issuer = certificates[index + 1]
    if (now < certificate.validFromDate || now > certificate.validToDate || (index > 0 && !certificate.ca)) return false
    return issuer === undefined || (certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey))
  })
  return holds ? certificates : undefined
}
