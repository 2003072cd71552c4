import { execFile, spawnSync } from 'node:child_process'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Why there is no ssh-keygen; `false` when there is one. */
export const withoutSshKeygen = spawnSync('ssh-keygen', ['-?']).error === undefined ? false : 'no ssh-keygen (Debian: openssh-client)'

export type SshKind = 'ed25519' | 'ecdsa' | 'rsa'

export interface HostCertificateOptions {
  /** `host-1.example.org` by default; empty: none. */
  readonly principals?: string
  readonly keyId?: string
  readonly serial?: number
  /** As ssh-keygen's -V has it, e.g. `20260101:20270101`; no end by default. */
  readonly validity?: string
  /** A user's certificate instead, with these -O. */
  readonly user?: readonly string[]
  /** -t of the signature, e.g. `ssh-rsa`. */
  readonly signature?: string
  /** Of ssh-keygen's -m and others, for the key. */
  readonly keyOptions?: readonly string[]
}

/** Paths of a host's files, as OpenSSH made them. */
export type HostFiles = { readonly host_key_path: string, readonly host_cert_path: string }

/** A CA for hosts, made by OpenSSH itself, with all it makes in a folder. */
export class SshCa {
  readonly publicKey: string
  readonly path: string
  readonly #folder: string
  #made = 0

  private constructor (folder: string, path: string, publicKey: string) {
    this.#folder = folder
    this.path = path
    this.publicKey = publicKey
  }

  static async create (folder: string, name = 'ca', kind: SshKind = 'ed25519'): Promise<SshCa> {
    const path = join(folder, name)
    await makeKey(path, kind)
    return new SshCa(folder, path, (await readFile(`${path}.pub`, 'utf8')).trim())
  }

  async certify (kind: SshKind = 'ed25519', options: HostCertificateOptions = {}, bits?: number): Promise<HostFiles> {
    const { principals = 'host-1.example.org', keyId = 'host 1', serial = 7, validity, user, signature, keyOptions = [] } = options
    const path = join(this.#folder, `host${++this.#made}`)
    await makeKey(path, kind, [...bits === undefined ? [] : ['-b', String(bits)], ...keyOptions])
    await run('ssh-keygen', [
      '-q', '-s', this.path, '-I', keyId, '-z', String(serial), ...user === undefined ? ['-h'] : user.flatMap(option => ['-O', option]),
      ...principals === '' ? [] : ['-n', principals], ...validity === undefined ? [] : ['-V', validity],
      ...signature === undefined ? [] : ['-t', signature], `${path}.pub`
    ])
    return { host_key_path: path, host_cert_path: `${path}-cert.pub` }
  }
}

async function makeKey (path: string, kind: SshKind, options: readonly string[] = []): Promise<void> {
  await rm(path, { force: true })
  const size = kind === 'rsa' ? ['-b', '2048'] : []
  await run('ssh-keygen', ['-q', '-t', kind, ...size, '-N', '', '-C', 'made for a test', '-f', path, ...options])
}
