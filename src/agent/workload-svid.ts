import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { Entry } from '../spiffe/entry.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import type { X509Svid } from '../spiffe/svid.ts'
import { parseCertificate } from '../x509/certificate.ts'

export type WorkloadKeyType = 'ec-p256' | 'ec-p384' | 'rsa-2048'

const generatePair = promisify(generateKeyPair)

export async function generateWorkloadKey (type: WorkloadKeyType): Promise<KeyObject> {
  const { privateKey } = type === 'rsa-2048'
    ? await generatePair('rsa', { modulusLength: 2048 })
    : await generatePair('ec', { namedCurve: type === 'ec-p256' ? 'P-256' : 'P-384' })
  return privateKey
}

/** The server is not believed blindly: the leaf must hold our key and the entry's ID. @param chain DER, leaf first */
export function readSvid (entry: Entry, key: KeyObject, chain: readonly Uint8Array[] | undefined): X509Svid | SpiffeError {
  try {
    const leaf = parseCertificate(chain?.[0] ?? new Uint8Array())
    const { privateKey, publicKey } = exportKey(key)
    if (!publicKey.equals(leaf.publicKey)) throw new SpiffeError('x509_svid_invalid', 'the server signed another key')
    if (leaf.uriSans.length !== 1 || leaf.uriSans[0] !== entry.spiffeId) {
      throw new SpiffeError('x509_svid_invalid', `the server signed ${JSON.stringify(leaf.uriSans[0] ?? '')} instead of ${entry.spiffeId}`)
    }
    return { id: entry.spiffeId, chain: chain ?? [], privateKey, notBefore: leaf.notBefore, notAfter: leaf.notAfter, hint: entry.hint }
  } catch (error) {
    return asSigningRefusal(error)
  }
}

/** `undefined` for what does not fit together. @param privateKey PKCS#8 DER */
export function restoreSvid (entry: Entry, chain: readonly Uint8Array[], privateKey: Uint8Array): X509Svid | undefined {
  try {
    const svid = readSvid(entry, createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' }), chain)
    return svid instanceof SpiffeError ? undefined : svid
  } catch {
    return undefined
  }
}

export function asSigningRefusal (error: unknown): SpiffeError {
  return error instanceof SpiffeError ? error : new SpiffeError('server_unreachable', 'the server did not sign', { cause: error })
}

function exportKey (key: KeyObject): { privateKey: Buffer, publicKey: Buffer } {
  return {
    privateKey: key.export({ format: 'der', type: 'pkcs8' }),
    publicKey: createPublicKey(key).export({ format: 'der', type: 'spki' })
  }
}

/** Whether an SVID of one serves the other as well. */
export function isSameRevision (a: Entry, b: Entry): boolean {
  return a.revisionNumber === b.revisionNumber && a.createdAtSeconds === b.createdAtSeconds && a.spiffeId === b.spiffeId
}
