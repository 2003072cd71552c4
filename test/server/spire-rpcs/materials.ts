import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import { encodeBundle } from '../../../src/wire/bundle-codec.ts'
import { createCertificateRequest, type RequestedNames } from '../../../src/x509/certificate-request.ts'
import { newKey } from '../../fakes/agent-client.ts'
import { createTestAuthority } from '../../fakes/authority.ts'
import { id } from '../admin/admin-client.ts'

export { id }

const key = newKey()

export const agentId = (token: string) => id(`/spire/agent/join_token/${token}`)
export const foreignId = { trustDomain: 'other.org', path: '/x' }
export const csr = createCertificateRequest(key)
export const csrFor = (names: RequestedNames) => ({ csr: createCertificateRequest(key, names) })
export const junk = Buffer.from('x')
export const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
export const rsaKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'der' })
export const partner = encodeBundle((await createTestAuthority('partner.test')).bundle)
export const tampered = Buffer.from(csr)
tampered[tampered.length - 1] = (tampered.at(-1) as number) ^ 1
export const bundleOf = (trustDomain: string, more: object = {}) => ({ ...partner, trustDomain, ...more })
export const uid = (value: string) => [{ type: 'unix', value: `uid:${value}` }]
