import type { MintedX509Ca, UpstreamAuthority, X509CaOrder } from '../../ca/upstream-authority.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { JsonObject } from '../../spiffe/strict-json.ts'
import { trustDomainId } from '../../spiffe/spiffe-id.ts'
import { parseCertificate, type Certificate } from '../../x509/certificate.ts'
import { decodePem, encodePem } from '../../x509/pem.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'
import { objectIn, postToVault, readSecretFile, type VaultAddress } from './vault-client.ts'

/** How this server shows Vault who it is; mounts are paths below `auth/`. */
export type VaultAuth =
  | { readonly method: 'token', readonly token: string }
  | { readonly method: 'approle', readonly mount: string, readonly roleId: string, readonly secretId: string }
  | { readonly method: 'cert', readonly mount: string, readonly role: string | undefined }
  | { readonly method: 'k8s', readonly mount: string, readonly role: string, readonly tokenPath: string }

export interface VaultOptions {
  readonly address: VaultAddress
  /** Where the PKI engine is. */
  readonly pkiMount: string
  readonly auth: VaultAuth
}

const mostCertificates = 16

/**
 * Vault's PKI engine, or OpenBao's, signs (spire-surface §7.4). Logs in anew for each CA: that is a few times a day, and no lease has to
 * be kept. Roots come with what is signed.
 */
export class VaultUpstream implements UpstreamAuthority {
  readonly #options: VaultOptions
  readonly #host: UpstreamHost

  constructor (options: VaultOptions, host: UpstreamHost) {
    this.#options = options
    this.#host = host
  }

  async mintX509Ca ({ csr, ttlSeconds }: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const { address, pkiMount } = this.#options
    const token = await this.#logIn(signal)
    const path = `${pkiMount}/root/sign-intermediate`
    const answer = await postToVault(address, path, {
      token,
      body: {
        csr: encodePem('CERTIFICATE REQUEST', csr), format: 'pem', ttl: `${ttlSeconds}s`, use_csr_values: true,
        uri_sans: trustDomainId(this.#host.trustDomain)
      }
    }, signal)
    return readSigned(objectIn(answer, 'data', path), path)
  }

  async [Symbol.asyncDispose] (): Promise<void> {}

  async #logIn (signal: AbortSignal): Promise<string> {
    const { address, auth } = this.#options
    if (auth.method === 'token') return auth.token
    const path = `auth/${auth.mount}/login`
    const answer = await postToVault(address, path, { body: await credentials(auth) }, signal)
    const { client_token: token } = objectIn(answer, 'auth', path)
    if (typeof token !== 'string' || token === '') throw new SpiffeError('upstream_invalid', `Vault answers ${path} without a token`)
    return token
  }
}

async function credentials (auth: Exclude<VaultAuth, { method: 'token' }>): Promise<JsonObject> {
  if (auth.method === 'approle') return { role_id: auth.roleId, secret_id: auth.secretId }
  if (auth.method === 'k8s') return { role: auth.role, jwt: (await readSecretFile(auth.tokenPath)).trim() }
  return auth.role === undefined ? {} : { name: auth.role }
}

/** Roots are those that issued themselves; where Vault was given none of them, the highest it knows is trusted. */
function readSigned ({ certificate, issuing_ca: issuer, ca_chain: chain }: JsonObject, path: string): MintedX509Ca {
  const [ca, ...others] = readCertificates(certificate, 'certificate', path)
  const listed = Array.isArray(chain) ? chain.flatMap(pem => readCertificates(pem, 'ca_chain', path)) : []
  const above = [...others, ...listed.length > 0 ? listed : readCertificates(issuer, 'issuing_ca', path)]
  const [highest] = above.slice(-1)
  if (ca === undefined || highest === undefined) throw invalid(path, 'no certificate, or none above it')
  if (above.length > mostCertificates) throw invalid(path, `more than ${mostCertificates} certificates`)
  const selfIssued = above.filter(isSelfIssued)
  const roots = selfIssued.length > 0 ? selfIssued : [highest]
  return {
    chain: [ca, ...above.filter(candidate => !roots.includes(candidate))].map(({ raw }) => raw),
    roots: roots.map(({ raw }) => ({ certificate: raw, tainted: false }))
  }
}

function readCertificates (pem: unknown, name: string, path: string): Certificate[] {
  if (typeof pem !== 'string') throw invalid(path, `no PEM as "${name}"`)
  try {
    return decodePem(pem, 'CERTIFICATE').map(der => parseCertificate(der))
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw invalid(path, `a "${name}" that cannot be read: ${error.message}`, error)
  }
}

function isSelfIssued ({ subjectDer, issuerDer }: Certificate): boolean { return Buffer.compare(subjectDer, issuerDer) === 0 }

function invalid (path: string, what: string, cause?: Error): SpiffeError {
  return new SpiffeError('upstream_invalid', `Vault answers ${path} with ${what}`, { cause })
}
