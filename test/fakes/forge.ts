import { generateKeyPairSync } from 'node:crypto'
import { issueJwtSvid } from '../../src/jwt/issue-jwt-svid.ts'
import type { Bundle } from '../../src/spiffe/bundle.ts'
import { parseSpiffeId } from '../../src/spiffe/spiffe-id.ts'
import type { CaSubject } from '../../src/x509/ca-certificate.ts'
import { createCertificateRequest } from '../../src/x509/certificate-request.ts'
import type { Certificate } from '../../src/x509/certificate.ts'
import { prepareLeafIssuer } from '../../src/x509/leaf-issuer.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { signerOf } from '../../src/x509/private-key-signer.ts'
import { createTestAuthority, type TestAuthority } from './authority.ts'
import type { Administrator } from '../interop/administrator.ts'

/** A chain, DER, leaf first, and its key, PKCS#8 DER. */
export interface Identity { readonly chain: readonly Uint8Array[], readonly privateKey: Uint8Array }

/** A CA of another trust domain whose name is that of a victim's CA to the byte. @param subject of the victim, without its serial number */
export async function createNamesake (trustDomain: string, victim: Certificate, subject: CaSubject): Promise<TestAuthority> {
  const serialNumber = BigInt(`0x${victim.serialNumber}`).toString()
  return await createTestAuthority(trustDomain, { subject: { ...subject, serialNumber } })
}

/** Leaves with an ID of another domain, signed by the hostile CA: one that names its own key, one that names the victim's. */
export async function forge (id: string, hostile: TestAuthority, victim: Certificate): Promise<Record<string, Identity>> {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const sign = async (subjectKeyId: Uint8Array | undefined) => {
    // Our own issuer refuses such an order; told that the CA is the victim's, it signs.
    const issuer = prepareLeafIssuer({ ...hostile.certificate, uriSans: victim.uriSans, subjectKeyId }, hostile.signer)
    const { publicKey } = signerOf(privateKey)
    const [notBefore, notAfter] = [new Date(Date.now() - 10_000), new Date(Date.now() + 600_000)]
    return await issuer.issue({ id: parseSpiffeId(id), publicKey, dnsNames: [], notBefore, notAfter })
  }
  const key = privateKey.export({ format: 'der', type: 'pkcs8' })
  const plain = await sign(hostile.certificate.subjectKeyId)
  return {
    'naming the signer\'s key': { chain: [plain], privateKey: key },
    'naming the victim\'s key': { chain: [await sign(victim.subjectKeyId)], privateKey: key },
    'with the signer\'s CA certificate': { chain: [plain, hostile.certificate.raw], privateKey: key },
    'with the victim\'s CA certificate': { chain: [plain, victim.raw], privateKey: key }
  }
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
