import { readFile } from 'node:fs/promises'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { decodePem } from '../../../x509/pem.ts'

/** @returns DER, in the order of the files. @throws {SpiffeError} `file_unusable` */
export async function readCertificateFiles (paths: readonly string[]): Promise<Uint8Array[]> {
  const all = await Promise.all(paths.map(async path => {
    try {
      const certificates = decodePem(await readFile(path, 'utf8'), 'CERTIFICATE')
      if (certificates.length > 0) return certificates
    } catch (error) {
      throw new SpiffeError('file_unusable', `x509pop: cannot read ${path}: ${(error as Error).message}`, { cause: error })
    }
    throw new SpiffeError('file_unusable', `x509pop: ${path} has no certificate in PEM`)
  }))
  return all.flat()
}
