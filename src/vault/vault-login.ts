import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../spiffe/errors.ts'
import { describeAnswer, member, type VaultHttp } from './vault-http.ts'

/** How a token is had. All of it but names and paths is secret. */
export type VaultAuth =
  | { readonly method: 'token', readonly token: string }
  | { readonly method: 'approle', readonly mount: string, readonly roleId: string, readonly secretId: string }
  | { readonly method: 'kubernetes', readonly mount: string, readonly role: string, readonly tokenPath: string }
  | { readonly method: 'cert', readonly mount: string, readonly role?: string | undefined }

export interface VaultToken {
  /** Secret. */
  readonly token: string
  readonly renewable: boolean
  /** From now; 0 when it does not end. */
  readonly leaseSeconds: number
}

/** Files of TLS are read anew: certificates are renewed. @throws {SpiffeError} of the client's codes, `file_unusable` */
export async function logIn (http: VaultHttp, auth: VaultAuth, signal: AbortSignal): Promise<VaultToken> {
  await http.refresh()
  if (auth.method === 'token') return await lookUp(http, auth.token, signal)
  const answer = await http.ask('POST', `auth/${encodeMount(auth.mount)}/login`, signal, { body: await credentialsOf(auth) })
  if (answer.status >= 300) throw http.refusal('refused', `vault refuses the login with ${describeAnswer(answer)}`)
  return readToken(http, member(answer.body, 'auth'))
}

/** @throws {SpiffeError} of the client's codes */
export async function renew (http: VaultHttp, { token }: VaultToken, signal: AbortSignal): Promise<VaultToken> {
  const answer = await http.ask('POST', 'auth/token/renew-self', signal, { token, body: {} })
  if (answer.status >= 300) throw http.refusal('refused', `vault does not renew the token: ${describeAnswer(answer)}`)
  return readToken(http, member(answer.body, 'auth'))
}

/** Path of a mount point, whose parts may be anything. */
export function encodeMount (mount: string): string {
  return mount.split('/').filter(part => part !== '').map(encodeURIComponent).join('/')
}

async function lookUp (http: VaultHttp, token: string, signal: AbortSignal): Promise<VaultToken> {
  const answer = await http.ask('GET', 'auth/token/lookup-self', signal, { token })
  if (answer.status >= 300) throw http.refusal('refused', `vault does not know the token: ${describeAnswer(answer)}`)
  const { ttl, renewable } = member(answer.body, 'data')
  if (typeof ttl !== 'number') throw http.malformed('without the token\'s ttl')
  return { token, renewable: renewable === true, leaseSeconds: ttl }
}

async function credentialsOf (auth: Exclude<VaultAuth, { method: 'token' }>): Promise<object> {
  if (auth.method === 'approle') return { role_id: auth.roleId, secret_id: auth.secretId }
  if (auth.method === 'kubernetes') return { role: auth.role, jwt: await readServiceAccountToken(auth.tokenPath) }
  return auth.role === undefined ? {} : { name: auth.role }
}

/** Kubernetes replaces it every hour or so: read anew for each login. */
async function readServiceAccountToken (path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch (error) {
    throw new SpiffeError('file_unusable', `cannot read the service account token ${path}: ${(error as Error).message}`, { cause: error })
  }
}

function readToken (
  http: VaultHttp, { client_token: token, renewable, lease_duration: seconds }: Readonly<Record<string, unknown>>
): VaultToken {
  if (typeof token !== 'string' || token === '' || typeof seconds !== 'number') throw http.malformed('without a token')
  return { token, renewable: renewable === true, leaseSeconds: seconds }
}
