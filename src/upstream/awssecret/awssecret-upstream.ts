import type { SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import type { MintedX509Ca, UpstreamAuthority, X509CaOrder } from '../../ca/upstream-authority.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { mintBelow, parseHeldCa, type NamedPem } from '../held-ca.ts'
import { refusalOfAws } from '../refusal-of-aws.ts'
import type { UpstreamHost } from '../upstream-plugin.ts'

export type SecretsModule = typeof import('@aws-sdk/client-secrets-manager')

/** Names or ARNs of secrets. */
export interface SecretNames {
  readonly certificate: string
  readonly key: string
  /** Roots; without it the certificate is its own. */
  readonly bundle: string | undefined
}

/** Bytes; Secrets Manager has no longer ones. */
const longestSecret = 65_536

/**
 * A CA in AWS Secrets Manager, signed with here (spire-surface §7.4). The secrets are read at each order, so that new ones count from then
 * on, and are forgotten afterwards.
 */
export class AwsSecretUpstream implements UpstreamAuthority {
  readonly #client: SecretsManagerClient
  readonly #secrets: SecretsModule
  readonly #names: SecretNames
  readonly #host: UpstreamHost

  constructor (client: SecretsManagerClient, secrets: SecretsModule, names: SecretNames, host: UpstreamHost) {
    this.#client = client
    this.#secrets = secrets
    this.#names = names
    this.#host = host
  }

  async mintX509Ca (order: X509CaOrder, signal: AbortSignal): Promise<MintedX509Ca> {
    const names = this.#names
    const [certificate, key, bundle] = await Promise.all([
      this.#read(names.certificate, signal), this.#read(names.key, signal),
      names.bundle === undefined ? undefined : this.#read(names.bundle, signal)
    ])
    const ca = parseHeldCa({ certificate, key, bundle, bundleSetting: 'bundle_file_arn' })
    return await mintBelow(ca, order, this.#host, certificate.name)
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#client.destroy() }

  async #read (SecretId: string, abortSignal: AbortSignal): Promise<NamedPem> {
    const name = `the secret ${SecretId}`
    try {
      const { SecretString, SecretBinary } = await this.#client.send(new this.#secrets.GetSecretValueCommand({ SecretId }), { abortSignal })
      const text = SecretString ?? (SecretBinary === undefined ? undefined : Buffer.from(SecretBinary).toString('latin1'))
      if (text === undefined || text.length > longestSecret) throw new SpiffeError('upstream_invalid', `${name} is empty or too long`)
      return { name, text }
    } catch (error) {
      if (error instanceof SpiffeError) throw error
      throw refusalOfAws(error, `aws secrets manager does not give ${SecretId}`)
    }
  }
}
