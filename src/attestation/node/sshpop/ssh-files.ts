import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { isCertificateType, parseSshCertificate, type SshCertificate } from './ssh-certificate.ts'
import { sshMalformed } from './ssh-encoding.ts'
import { isSshKeyType, parseSshPublicKey } from './ssh-public-key.ts'
import { parseSshPrivateKey, type SshPrivateKey } from './ssh-private-key.ts'

/** Bytes. */
const maxFile = 1024 * 1024

/** One key of a file or a setting in the form of authorized_keys: options, type, base64, comment. */
interface KeyLine { readonly type: string, readonly blob: Buffer }

/**
 * Keys that sign hosts' certificates, in the form of authorized_keys, e.g. `ssh-ed25519 AAAA… company CA`.
 * @returns each as it stands in certificates
 * @throws {SpiffeError} `file_unusable`, naming where
 */
export async function readAuthorities (path: string): Promise<Buffer[]> {
  const lines = (await readText(path)).split('\n').filter(line => !/^\s*(?:#.*)?$/.test(line))
  if (lines.length === 0) throw unusable(path, 'has no key')
  return lines.map(line => {
    try {
      return parseAuthority(line)
    } catch (error) {
      throw unusable(path, (error as Error).message.replace(/^sshpop: /, ''), error)
    }
  })
}

/** @throws {SpiffeError} `attestation_malformed` */
export function parseAuthority (line: string): Buffer {
  const found = keyLineOf(line, isSshKeyType)
  if (found === undefined) throw sshMalformed(`no public key of a type that is accepted: ${line.slice(0, 64)}`)
  parseSshPublicKey(found.blob, 'a CA key')
  return found.blob
}

export interface HostCredentials { readonly certificate: SshCertificate, readonly key: SshPrivateKey }

/** @throws {SpiffeError} `file_unusable`; content of the key is never quoted */
export async function readHostCredentials (keyPath: string, certificatePath: string): Promise<HostCredentials> {
  const line = keyLineOf((await readText(certificatePath)).split('\n')[0] as string, isCertificateType)
  if (line === undefined) throw unusable(certificatePath, 'holds no OpenSSH certificate')
  const certificate = reading(certificatePath, () => parseSshCertificate(line.blob))
  const text = await readText(keyPath)
  const key = reading(keyPath, () => parseSshPrivateKey(text))
  if (key.type === certificate.subject.type && key.publicKey.equals(certificate.subject.key)) return { certificate, key }
  throw unusable(keyPath, `is not the key of the certificate in ${certificatePath}`)
}

/** The first words that are a type and base64; what stands before them are options. */
function keyLineOf (line: string, isType: (type: string) => boolean): KeyLine | undefined {
  const words = line.trim().split(/[ \t]+/)
  const at = words.findIndex((word, index) => isType(word) && /^[A-Za-z0-9+/]+={0,2}$/.test(words[index + 1] ?? ''))
  if (at < 0) return undefined
  const blob = Buffer.from(words[at + 1] as string, 'base64')
  return { type: words[at] as string, blob }
}

function reading<T> (path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof SpiffeError)) throw error
    throw unusable(path, `cannot be used: ${error.message.replace(/^sshpop: /, '')}`, error)
  }
}

async function readText (path: string): Promise<string> {
  let bytes
  try {
    bytes = await readFile(path)
  } catch (error) {
    throw unusable(path, `cannot be read: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`, error)
  }
  if (bytes.length > maxFile) throw unusable(path, `is longer than ${maxFile} bytes`)
  return bytes.toString('utf8')
}

function unusable (path: string, why: string, cause?: unknown): SpiffeError {
  return new SpiffeError('file_unusable', `sshpop: ${path} ${why}`, { cause })
}
