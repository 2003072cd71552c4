import { readTextFile } from '../../../plugins/text-file.ts'
import { SpiffeError } from '../../../spiffe/errors.ts'
import { decodePem } from '../../../x509/pem.ts'

/** @returns DER, in the order of the files. @throws {SpiffeError} `file_unusable` */
export async function readCertificateFiles (paths: readonly string[]): Promise<Uint8Array[]> {
  const all = await Promise.all(paths.map(async path => decode(path, await readTextFile(path))))
  return all.flat()
}

function decode (path: string, text: string): Uint8Array[] {
  try {
    const certificates = decodePem(text, 'CERTIFICATE')
    if (certificates.length > 0) return certificates
  } catch (error) {
    throw new SpiffeError('file_unusable', `x509pop: cannot use ${path}: ${(error as Error).message}`, { cause: error })
  }
  throw new SpiffeError('file_unusable', `x509pop: ${path} has no certificate in PEM`)
}
