import { SpiffeError } from '../../../spiffe/errors.ts'

/** SSH's data types (RFC 4251 §5), read without tolerance. Bytes that are returned are views of the input. */
export class SshReader {
  readonly #bytes: Buffer
  readonly #what: string
  #at = 0

  /** @param what is read, for messages */
  constructor (bytes: Uint8Array, what: string) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  get isDone (): boolean { return this.left === 0 }
  /** Bytes. */
  get left (): number { return this.#bytes.length - this.#at }

  take (count: number): Buffer {
    if (count > this.left) throw this.#malformed('ends in the middle')
    this.#at += count
    return this.#bytes.subarray(this.#at - count, this.#at)
  }

  readUint32 (): number { return this.take(4).readUInt32BE() }
  readUint64 (): bigint { return this.take(8).readBigUInt64BE() }
  readString (): Buffer { return this.take(this.readUint32()) }

  /** UTF-8. */
  readText (): string {
    const bytes = this.readString()
    const text = bytes.toString('utf8')
    if (!Buffer.from(text).equals(bytes)) throw this.#malformed('has a text that is not in UTF-8')
    return text
  }

  /** A positive number in its shortest form, without the octet that keeps it positive. */
  readPositive (): Buffer {
    const bytes = this.readString()
    const [first, second] = bytes
    if (first === undefined || first >= 0x80) throw this.#malformed('has a number that is not positive')
    if (first !== 0) return bytes
    if (second === undefined || second < 0x80) throw this.#malformed('has a number that is not in its shortest form')
    return bytes.subarray(1)
  }

  finish (): void {
    if (!this.isDone) throw this.#malformed('goes on after its end')
  }

  #malformed (rule: string): SpiffeError { return sshMalformed(`${this.#what} ${rule}`) }
}

export function sshMalformed (what: string): SpiffeError { return new SpiffeError('attestation_malformed', `sshpop: ${what}`) }

export function encodeString (bytes: Uint8Array | string): Buffer {
  const content = Buffer.from(bytes as Uint8Array)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(content.length)
  return Buffer.concat([length, content])
}

/** A positive number. @param magnitude highest octet first; zeros may lead */
export function encodePositive (magnitude: Uint8Array): Buffer {
  const first = magnitude.findIndex(octet => octet !== 0)
  const digits = first < 0 ? new Uint8Array() : magnitude.subarray(first)
  return encodeString((digits[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), digits]) : digits)
}
