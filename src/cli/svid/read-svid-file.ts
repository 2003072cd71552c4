import { SpiffeError } from '../../spiffe/errors.ts'
import { splitCertificates } from '../../x509/certificate.ts'
import { decodePem } from '../../x509/pem.ts'
import { readInputFile } from '../read-input.ts'
import type { Terminal } from '../terminal.ts'

export type SvidFile =
  | { readonly kind: 'x509', /** DER, in the file's order. */ readonly chain: readonly Uint8Array[] }
  | { readonly kind: 'jwt', readonly token: string }

/**
 * Tells PEM, DER and a JWT apart by the content. Whether the SVID is any good is for others to say: a certificate that does
 * not parse is still one.
 * @param path `-` is standard input
 * @throws {SpiffeError} `file_unusable` for what is neither; `certificate_malformed` for broken PEM or DER
 */
export async function readSvidFile (path: string, terminal: Terminal): Promise<SvidFile> {
  const bytes = path === '-' ? new TextEncoder().encode(await terminal.readInput()) : await readInputFile(path)
  if (bytes[0] === 0x30) return { kind: 'x509', chain: splitCertificates(bytes) }
  const text = new TextDecoder().decode(bytes)
  if (text.includes('-----BEGIN ')) {
    const chain = decodePem(text, 'CERTIFICATE')
    if (chain.length > 0) return { kind: 'x509', chain }
    throw new SpiffeError('file_unusable', `${path} is PEM without a CERTIFICATE block`)
  }
  // Editors and shells end files with a line feed; the token itself has none.
  const token = text.replace(/\r?\n$/, '')
  if (/^[\w-]*\.[\w-]*\.[\w.=-]*$/.test(token) && token.length > 2) return { kind: 'jwt', token }
  const content = bytes.length === 0 ? 'is empty' : text.trimStart().startsWith('{') ? 'looks like a bundle (JSON)' : 'holds something else'
  throw new SpiffeError('file_unusable', `${path} ${content}: an X.509 chain (PEM or DER) or a JWT is wanted`)
}
