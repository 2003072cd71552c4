import type { KMSClient } from '@aws-sdk/client-kms'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyType } from '../../x509/key-type.ts'
import type { CreatedKey, KeyService } from '../remote/key-service.ts'
import { refusalOfKms } from './aws-kms-refusal.ts'

export type KmsModule = typeof import('@aws-sdk/client-kms')

export interface AwsKmsOptions {
  readonly trustDomain: string
  /** In tags; the names of keys begin with it as well. */
  readonly identifier: string
  readonly tags: Readonly<Record<string, string>>
  /** JSON; KMS's own where there is none. */
  readonly policy?: string | undefined
}

const keySpecs = { 'ec-p256': 'ECC_NIST_P256', 'ec-p384': 'ECC_NIST_P384', 'rsa-2048': 'RSA_2048', 'rsa-4096': 'RSA_4096' } as const
const algorithms = {
  'ec-p256': 'ECDSA_SHA_256', 'ec-p384': 'ECDSA_SHA_384', 'rsa-2048': 'RSASSA_PKCS1_V1_5_SHA_256', 'rsa-4096': 'RSASSA_PKCS1_V1_5_SHA_256'
} as const
/** Days in which a removal can be taken back; the least that KMS allows. */
const pendingDays = 7
/** Of an RSA 4096 public key or signature. */
const longestAnswer = 1_024

/**
 * Keys in AWS KMS; a location is the key's ARN. Each key has an alias of its own, for people and for policies:
 * `alias/ASSAY_SERVER/<trust domain>/<name>`. SPIRE's aliases are not used: a SPIRE server of the same trust domain removes those it
 * does not know after two weeks, with their keys.
 */
export class AwsKmsKeyService implements KeyService {
  readonly name = 'aws_kms'
  readonly #client: KMSClient
  readonly #kms: KmsModule
  readonly #options: AwsKmsOptions

  constructor (client: KMSClient, kms: KmsModule, options: AwsKmsOptions) {
    this.#client = client
    this.#kms = kms
    this.#options = options
  }

  async create (name: string, type: KeyType, abortSignal: AbortSignal): Promise<CreatedKey> {
    const { trustDomain, identifier, tags, policy } = this.#options
    const all = { ...tags, 'assay-trust-domain': trustDomain, 'assay-server': identifier }
    const made = await asking('make a key', abortSignal, this.#client.send(new this.#kms.CreateKeyCommand({
      Description: `ASSAY_SERVER/${trustDomain}`,
      KeyUsage: 'SIGN_VERIFY',
      KeySpec: keySpecs[type],
      Tags: Object.entries(all).map(([TagKey, TagValue]) => ({ TagKey, TagValue })),
      ...policy === undefined ? {} : { Policy: policy }
    }), { abortSignal }))
    const location = made.KeyMetadata?.Arn
    if (location === undefined) throw malformed('without a key\'s ARN')
    try {
      await asking('name a key', abortSignal, this.#client.send(new this.#kms.CreateAliasCommand({
        AliasName: aliasOf(trustDomain, name), TargetKeyId: location
      }), { abortSignal }))
      return { location, publicKey: await this.publicKeyOf(location, abortSignal) }
    } catch (error) {
      await this.remove(location, AbortSignal.timeout(5_000)).catch(() => {})
      throw error
    }
  }

  async publicKeyOf (location: string, abortSignal: AbortSignal): Promise<Uint8Array> {
    const { PublicKey } = await asking('show a key', abortSignal,
      this.#client.send(new this.#kms.GetPublicKeyCommand({ KeyId: location }), { abortSignal }))
    return short(PublicKey, 'public key')
  }

  async sign (location: string, type: KeyType, digest: Uint8Array, abortSignal: AbortSignal): Promise<Uint8Array> {
    const { Signature } = await asking('sign', abortSignal, this.#client.send(new this.#kms.SignCommand({
      KeyId: location, Message: digest, MessageType: 'DIGEST', SigningAlgorithm: algorithms[type]
    }), { abortSignal }))
    return short(Signature, 'signature')
  }

  /** It signs no more at once, and is gone after seven days, its alias with it. */
  async remove (location: string, abortSignal: AbortSignal): Promise<void> {
    try {
      await asking('remove a key', abortSignal, this.#client.send(new this.#kms.ScheduleKeyDeletionCommand({
        KeyId: location, PendingWindowInDays: pendingDays
      }), { abortSignal }))
    } catch (error) {
      if (!(error instanceof SpiffeError) || error.code !== 'key_service_key_gone') throw error
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#client.destroy() }
}

/** KMS takes `A-Z a-z 0-9 / _ -` in an alias, 256 bytes at most. */
export function aliasOf (trustDomain: string, name: string): string {
  const clean = (text: string, most: number) => text.replaceAll('.', '_').slice(-most)
  return `alias/ASSAY_SERVER/${clean(trustDomain, 100)}/${clean(name, 130)}`
}

async function asking<T> (what: string, signal: AbortSignal, answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    signal.throwIfAborted()
    throw refusalOfKms(error, what)
  }
}

function short (bytes: Uint8Array | undefined, what: string): Uint8Array {
  if (bytes === undefined || bytes.length === 0 || bytes.length > longestAnswer) throw malformed(`without a ${what}`)
  return new Uint8Array(bytes)
}

function malformed (what: string): SpiffeError {
  return new SpiffeError('key_service_malformed', `aws kms's answer is ${what}`)
}
