import { constants, type BigIntStats } from 'node:fs'
import { mkdir, open, stat, type FileHandle } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { removeTemporaries, writeFileAtomically } from '../../runtime/atomic-file.ts'
import type { Logger } from '../../runtime/logger.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { isJsonObject, parseStrictJsonObject } from '../../spiffe/strict-json.ts'
import { holdKey, isKeyId, type HeldKey, type HeldKeys } from '../local-key-manager.ts'
import { exportPrivateKey, parsePrivateKey } from '../private-key.ts'

/** Bytes; hundreds of RSA keys. */
const maxSize = 1024 * 1024

/** The form of SPIRE's disk key manager: `{"keys": {"<id>": "<PKCS#8 DER in base64>"}}`. */
export class KeyFile {
  readonly #path: string
  /** The file as we last read or wrote it; `undefined` while there is none. */
  #seen: string | undefined

  constructor (path: string) { this.#path = resolve(path) }

  /** Makes missing folders, clears away what a killed process left, closes the file to other users, and reads it. */
  async open (log: Logger): Promise<HeldKeys> {
    try {
      await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 })
      await removeTemporaries(this.#path)
      await using file = await openIfThere(this.#path)
      if (file === undefined) return new Map()
      const stats = await file.stat({ bigint: true })
      if (!stats.isFile()) throw new SpiffeError('file_unusable', `${this.#path} is no regular file`)
      if (stats.size > maxSize) throw corrupt(this.#path, `is longer than ${maxSize} bytes`)
      if ((stats.mode & 0o077n) !== 0n) {
        await file.chmod(0o600)
        const mode = (stats.mode & 0o777n).toString(8)
        log.warn({ file: this.#path, mode }, 'the key file was open to other users; it is closed now, but its keys may be known')
      }
      const keys = parseKeys(await file.readFile(), this.#path)
      this.#seen = formatIdentity(stats)
      return keys
    } catch (error) {
      if (error instanceof SpiffeError) throw error
      throw new SpiffeError('file_unusable', `cannot open the key file ${this.#path}: ${(error as Error).message}`, { cause: error })
    }
  }

  /** @throws {SpiffeError} `key_store_changed` when it is not the file we know any more; `file_unusable` */
  async write (keys: HeldKeys): Promise<void> {
    try {
      const now = await identityOf(this.#path)
      if (now !== undefined && now !== this.#seen) throw new SpiffeError('key_store_changed', `another process has written ${this.#path}`)
      await writeFileAtomically(this.#path, formatKeys(keys), { mode: 0o600 })
      this.#seen = await identityOf(this.#path)
    } catch (error) {
      if (error instanceof SpiffeError) throw error
      throw new SpiffeError('file_unusable', `cannot write the key file ${this.#path}: ${(error as Error).message}`, { cause: error })
    }
  }
}

/** Messages never quote the content. */
function parseKeys (bytes: Uint8Array, path: string): HeldKeys {
  const { keys, ...others } = parseObject(bytes, path)
  if (!isJsonObject(keys) || Object.keys(others).length > 0) throw corrupt(path, 'is not an object with the one member "keys"')
  return new Map(Object.entries(keys).map(([id, value]): [string, HeldKey] => {
    if (!isKeyId(id)) throw corrupt(path, `holds the malformed key ID ${JSON.stringify(id.slice(0, 255))}`)
    const pkcs8 = Buffer.from(typeof value === 'string' ? value : '', 'base64')
    const privateKey = pkcs8.toString('base64') === value ? parsePrivateKey(pkcs8) : undefined
    if (privateKey === undefined) throw corrupt(path, `holds no usable private key under "${id}"`)
    return [id, holdKey(id, privateKey)]
  }))
}

function parseObject (bytes: Uint8Array, path: string) {
  try {
    return parseStrictJsonObject(bytes, { maxLength: maxSize })
  } catch (error) {
    throw new SpiffeError('key_store_corrupt', `${path} is not one JSON object`, { cause: error })
  }
}

function formatKeys (keys: HeldKeys): string {
  const encoded = [...keys].map(([id, { privateKey }]) => [id, exportPrivateKey(privateKey).toString('base64')])
  return `${JSON.stringify({ keys: Object.fromEntries(encoded) as Record<string, string> }, undefined, 2)}\n`
}

async function openIfThere (path: string): Promise<FileHandle | undefined> {
  try {
    // Not blocking, so that a FIFO in its place is refused and not waited for.
    return await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function identityOf (path: string): Promise<string | undefined> {
  try {
    return formatIdentity(await stat(path, { bigint: true }))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function formatIdentity ({ dev, ino, mtimeNs, size }: BigIntStats): string {
  return [dev, ino, mtimeNs, size].join(':')
}

function corrupt (path: string, rule: string): SpiffeError {
  return new SpiffeError('key_store_corrupt', `${path} ${rule}`)
}
