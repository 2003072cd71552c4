import { awsFailureOf } from '../../aws/aws-failure.ts'
import type { AwsAccess } from '../../aws/aws-client.ts'
import { S3Object, type S3ObjectName } from '../../aws/s3-object.ts'
import { writeFileAtomically } from '../../runtime/atomic-file.ts'
import { SpiffeError } from '../../spiffe/errors.ts'

export type PlaceConfig =
  | { readonly kind: 'file', readonly path: string }
  | { readonly kind: 's3', readonly access: AwsAccess, readonly object: S3ObjectName }

/** Nobody is asked yet. */
export function openPlace (config: PlaceConfig): PublicationPlace {
  return config.kind === 'file' ? new FilePublication(config.path) : new S3Publication(config.access, config.object)
}

/** Where the own bundle is put, for partners to find it there. */
export interface PublicationPlace extends AsyncDisposable {
  /** For people: a path or `s3://bucket/key`. */
  readonly name: string
  /** Whether all servers of the trust domain put it there, so that one of them is enough. */
  readonly isShared: boolean
  /**
   * Replaces what is there, as a whole.
   * @throws {SpiffeError} `file_unusable`, `bundle_unpublished`; never with a secret in it
   */
  put (text: string, contentType: string, signal: AbortSignal): Promise<void>
}

/** A file that everybody may read, such as one that a web server has. */
export class FilePublication implements PublicationPlace {
  readonly name: string
  readonly isShared = false

  constructor (path: string) { this.name = path }

  async put (text: string): Promise<void> {
    try {
      await writeFileAtomically(this.name, text, { mode: 0o644 })
    } catch (cause) {
      throw new SpiffeError('file_unusable', `${this.name} cannot be written: ${(cause as Error).message}`, { cause })
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> {}
}

/** An object of S3 or of a store like it. */
export class S3Publication implements PublicationPlace {
  readonly name: string
  readonly isShared = true
  readonly #access: AwsAccess
  readonly #object: S3ObjectName
  #open: Promise<S3Object> | undefined

  constructor (access: AwsAccess, object: S3ObjectName) {
    this.name = `s3://${object.bucket}/${object.key}`
    this.#access = access
    this.#object = object
  }

  async put (text: string, contentType: string, signal: AbortSignal): Promise<void> {
    this.#open ??= S3Object.open(this.#access, this.#object)
    const object = await this.#open
    try {
      await object.put(text, contentType, signal)
    } catch (error) {
      // It is no cause: it may hold the request, and with it a signature.
      throw new SpiffeError('bundle_unpublished', `${this.name}: ${awsFailureOf(error).said}`)
    }
  }

  async [Symbol.asyncDispose] (): Promise<void> { await (await this.#open)?.[Symbol.asyncDispose]() }
}
