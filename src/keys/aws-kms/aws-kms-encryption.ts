import type { KMSClient } from '@aws-sdk/client-kms'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { KeyEncryptionService } from '../database/key-encryption-service.ts'
import type { KmsModule } from './aws-kms-key-service.ts'
import { refusalOfKms } from './aws-kms-refusal.ts'

/** A symmetric key in AWS KMS. The trust domain is in the encryption context, so that policies and CloudTrail see it. */
export class AwsKmsEncryption implements KeyEncryptionService {
  readonly name = 'aws_kms'
  readonly #client: KMSClient
  readonly #kms: KmsModule
  readonly #question: { readonly KeyId: string, readonly EncryptionContext: Readonly<Record<string, string>> }

  /** @param keyId an ID, an ARN, or an alias */
  constructor (client: KMSClient, kms: KmsModule, { keyId, trustDomain }: { readonly keyId: string, readonly trustDomain: string }) {
    this.#client = client
    this.#kms = kms
    this.#question = { KeyId: keyId, EncryptionContext: { 'assay-trust-domain': trustDomain } }
  }

  async encrypt (Plaintext: Uint8Array, abortSignal: AbortSignal): Promise<Uint8Array> {
    const question = new this.#kms.EncryptCommand({ ...this.#question, Plaintext })
    const { CiphertextBlob } = await this.#asking('encrypt', abortSignal, this.#client.send(question, { abortSignal }))
    return present(CiphertextBlob)
  }

  async decrypt (CiphertextBlob: Uint8Array, abortSignal: AbortSignal): Promise<Uint8Array> {
    const question = new this.#kms.DecryptCommand({ ...this.#question, CiphertextBlob })
    const { Plaintext } = await this.#asking('decrypt', abortSignal, this.#client.send(question, { abortSignal }))
    return present(Plaintext)
  }

  async [Symbol.asyncDispose] (): Promise<void> { this.#client.destroy() }

  async #asking<T> (what: string, signal: AbortSignal, answer: Promise<T>): Promise<T> {
    try {
      return await answer
    } catch (error) {
      signal.throwIfAborted()
      if (/^(?:InvalidCiphertext|IncorrectKey)/.test((error as Error).name)) {
        const { KeyId } = this.#question
        throw new SpiffeError('key_encryption_key_invalid', `aws kms did not encrypt it under ${KeyId}, or for this trust domain`)
      }
      throw refusalOfKms(error, what)
    }
  }
}

function present (bytes: Uint8Array | undefined): Uint8Array {
  if (bytes === undefined) throw new SpiffeError('key_service_malformed', 'aws kms\'s answer is empty')
  return new Uint8Array(bytes)
}
