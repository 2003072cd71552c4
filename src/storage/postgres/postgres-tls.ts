import { readFile, stat } from 'node:fs/promises'
import { getCACertificates, type ConnectionOptions } from 'node:tls'
import { SpiffeError } from '../../spiffe/errors.ts'
import type { PostgresTls } from './postgres-address.ts'

/**
 * Reads the files an address names into what Node's TLS takes; anew for each connection, so that replaced files count.
 * @throws {SpiffeError} `file_unusable`, also when others may read the key (libpq's rule)
 */
export async function readPostgresTls ({ mode, rootCert, cert, key }: PostgresTls): Promise<ConnectionOptions> {
  return {
    ...mode === 'require' ? { rejectUnauthorized: false } : {},
    ...mode === 'verify-ca' ? { checkServerIdentity: () => undefined } : {},
    ...rootCert === undefined ? {} : { ca: rootCert === 'system' ? getCACertificates('system') : await readPem('sslrootcert', rootCert) },
    ...cert === undefined || key === undefined ? {} : { cert: await readPem('sslcert', cert), key: await readKey(key) }
  }
}

async function readKey (file: string): Promise<string> {
  const { mode, uid } = await orRefusal('sslkey', file, () => stat(file))
  // A group may read root's: that is how packages hand keys to services.
  const forbidden = uid === 0 ? 0o027 : 0o077
  if ((mode & forbidden) !== 0) throw unusable('sslkey', file, 'others may read it; its mode must be 0600, or 0640 where it is root\'s')
  return await readPem('sslkey', file)
}

async function readPem (parameter: string, file: string): Promise<string> {
  const text = await orRefusal(parameter, file, () => readFile(file, 'utf8'))
  // Node's TLS takes a file without a certificate for one that trusts nobody, and says so in other words.
  if (!text.includes('-----BEGIN ')) throw unusable(parameter, file, 'it holds no PEM')
  return text
}

async function orRefusal<T> (parameter: string, file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    throw unusable(parameter, file, (error as Error).message, error)
  }
}

function unusable (parameter: string, file: string, reason: string, cause?: unknown): SpiffeError {
  return new SpiffeError('file_unusable', `${parameter} ${file} cannot be used: ${reason}`, { cause })
}
