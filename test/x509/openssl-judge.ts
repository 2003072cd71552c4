import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { encodePem } from '../../src/x509/pem.ts'

/** Why the openssl command cannot judge here; `false` if it can. For tap's `skip`. */
export const noOpenssl: string | false = spawnSync('openssl', ['version']).status === 0 ? false : 'no openssl on PATH: it did not judge'

const tlsPurposes = ['sslclient', 'sslserver']

/** What `openssl verify -x509_strict` finds wrong with a chain for each of the purposes; empty when nothing. */
export function faultsByOpenssl (chain: readonly Uint8Array[], root: Uint8Array, at: Date, purposes = tlsPurposes): string {
  const folder = mkdtempSync(join(tmpdir(), 'assay-openssl-'))
  try {
    const [leaf, ...others] = chain.map(der => encodePem('CERTIFICATE', der))
    writeFileSync(join(folder, 'root.pem'), encodePem('CERTIFICATE', root))
    writeFileSync(join(folder, 'leaf.pem'), leaf as string)
    writeFileSync(join(folder, 'others.pem'), others.join(''))
    const untrusted = others.length > 0 ? ['-untrusted', join(folder, 'others.pem')] : []
    return purposes.map(purpose => {
      const { status, stderr } = spawnSync('openssl', [
        'verify', '-x509_strict', '-purpose', purpose, '-attime', String(Math.floor(at.getTime() / 1000)),
        '-CAfile', join(folder, 'root.pem'), '-no-CApath', '-no-CAstore', ...untrusted, join(folder, 'leaf.pem')
      ], { encoding: 'utf8' })
      return status === 0 ? '' : `${purpose}: ${stderr}`
    }).join('')
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** `openssl x509 -text`, with runs of white space made one space. */
export function describeByOpenssl (der: Uint8Array): string {
  const flags = ['x509', '-inform', 'der', '-noout', '-text', '-nameopt', 'RFC2253']
  const text = execFileSync('openssl', flags, { input: der, encoding: 'utf8' })
  return text.replaceAll(/\s+/g, ' ')
}
