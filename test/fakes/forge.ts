import { generateKeyPairSync } from 'node:crypto'
import { issueJwtSvid } from '../../src/jwt/issue-jwt-svid.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseSpiffeId, trustDomainOf } from '../../src/spiffe/spiffe-id.ts'
import { createCaCertificate, type CaSubject } from '../../src/x509/ca-certificate.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { createTestAuthority, type TestAuthority, type TestAuthorityOptions } from './authority.ts'
import type { Administrator } from '../interop/administrator.ts'

/** A chain, DER, leaf first, and its key, PKCS#8 DER. */
export interface Identity { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array }

/** A CA of another trust domain whose name is that of a victim's CA to the byte. @param subject of the victim, without its serial number */
export async function createNamesake (trustDomain: string, victim: Certificate, subject: CaSubject): Promise<TestAuthority> {
  const serialNumber = BigInt(`0x${victim.serialNumber}`).toString()
  return await createTestAuthority(trustDomain, { subject: { ...subject, serialNumber } })
}

/**
 * Leaves with an ID of another domain: signed by the hostile CA, naming its own key or the victim's, and signed by CAs that it has
 * certified, as cross-signing does, one of them under the victim's name and trust domain.
 */
export async function forge (id: string, hostile: TestAuthority, victim: Certificate): Promise<Record<string, Identity>> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const sign = async (subjectKeyId: Uint8Array | undefined) => {
    // Our own issuer refuses such an order; told that the CA is the victim's, it signs.
    const issuer = prepareLeafIssuer({ ...hostile.certificate, uriSans: victim.uriSans, subjectKeyId }, hostile.signer)
    const { publicKey } = signerOf(privateKey)
    const [notBefore, notAfter] = [new Date(Date.now() - 10_000), new Date(Date.now() + 600_000)]
    return await issuer.issue({ id: parseSpiffeId(id), publicKey, dnsNames: [], notBefore, notAfter })
  }
  const crossed = async (options: TestAuthorityOptions = {}) =>
    await (await createTestAuthority(trustDomainOf(parseSpiffeId(id)), { issuer: hostile, ...options })).issue(id)
  const key = privateKey.export({ format: 'der', type: 'pkcs8' })
  const plain = await sign(hostile.certificate.subjectKeyId)
  return {
    'naming the signer\'s key': { chain: [plain], privateKey: key },
    'naming the victim\'s key': { chain: [await sign(victim.subjectKeyId)], privateKey: key },
    'with the signer\'s CA certificate': { chain: [plain, hostile.certificate.raw], privateKey: key },
    'with the victim\'s CA certificate': { chain: [plain, victim.raw], privateKey: key },
    'by a CA that it cross-signed': await crossed(),
    'by one that it cross-signed under the victim\'s name': await crossed({ subject: victim.subjectDer })
  }
}

/** The certificate by which a hostile CA vouches for the key of another one, under its name and trust domain. @returns DER */
export async function crossSign ({ trustDomain, certificate }: TestAuthority, hostile: TestAuthority): Promise<Uint8Array> {
  const { publicKey, subjectDer: subject, notBefore, notAfter } = certificate
  return await createCaCertificate({ trustDomain, signer: { publicKey }, subject, notBefore, notAfter, issuer: hostile })
}

/** Tokens with an ID of another domain, signed by the hostile key. */
export async function forgeTokens (id: string, hostile: TestAuthority, victim: Bundle): Promise<Record<string, string>> {
  const sign = (keyId: string) => issueJwtSvid({
    id: parseSpiffeId(id), audience: ['db'], issuedAt: new Date(), expiresAt: new Date(Date.now() + 60_000)
  }, { keyId, signer: hostile.jwtKey.signer })
  return {
    'naming the signer\'s key': await sign(hostile.jwtKey.keyId),
    'naming the victim\'s key': await sign(victim.jwtAuthorities[0]?.keyId ?? '')
  }
}

/** What the domain's own server signs for an ID. */
export async function mint (admin: Administrator, id: string): Promise<Identity> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const { svid } = await admin.svids.mintX509SVID({ csr: createCertificateRequest(privateKey, { uriSans: [id] }) })
  return { chain: svid?.certChain ?? [], privateKey: privateKey.export({ format: 'der', type: 'pkcs8' }) }
}

export function pemOf ({ chain }: Pick<Identity, 'chain'>): string {
  return chain.map(der => encodePem('CERTIFICATE', der)).join('')
}
