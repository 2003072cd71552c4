import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { oid } from '../../src/x509/oid.ts'
import { encodePem } from '../../src/x509/pem.ts'
import { altNames, caExtensions, forge, type Forged, leafExtensions, nameOf } from '../x509/forge-certificate.ts'

export interface WebCertificate { readonly cert: string, readonly key: string }

const hour = 3_600_000

/** A certificate authority of the web, of one test. */
export class WebAuthority {
  readonly #root: Forged
  /** PEM. */
  readonly pem: string
  readonly #now: number

  constructor (now: Date = new Date()) {
    this.#now = now.getTime()
    const life = { notBefore: new Date(this.#now - hour), notAfter: new Date(this.#now + 1_000 * hour) }
    this.#root = forge({ ...life, subject: 'a CA of the web', extensions: caExtensions() })
    this.pem = encodePem('CERTIFICATE', this.#root.der)
  }

  /** For names of hosts, and for 127.0.0.1. @param hours of its life, from an hour ago */
  issue (names: readonly string[], hours = 100): WebCertificate {
    const alternatives = altNames([...names.map(name => nameOf.dns(name)), nameOf.ip([127, 0, 0, 1])])
    const { der, key } = forge({
      notBefore: new Date(this.#now - hour), notAfter: new Date(this.#now + (hours - 1) * hour),
      issuer: this.#root, subject: names[0] ?? 'host',
      extensions: { ...leafExtensions(), [oid.subjectAltName]: alternatives }
    })
    return { cert: encodePem('CERTIFICATE', der), key: String(key.export({ format: 'pem', type: 'pkcs8' })) }
  }
}

/** Files as an administrator renews them. */
export class CertificateFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), 'assay-oidc-'))
  readonly paths = { certificatePath: join(this.path, 'tls.pem'), keyPath: join(this.path, 'tls.key') }

  constructor (first: WebCertificate) { this.write(first) }

  write ({ cert, key }: Partial<WebCertificate>): void {
    for (const [path, text] of [[this.paths.certificatePath, cert], [this.paths.keyPath, key]] as const) {
      if (text === undefined) continue
      writeFileSync(`${path}.new`, text)
      renameSync(`${path}.new`, path)
    }
  }

  [Symbol.dispose] (): void { rmSync(this.path, { recursive: true, force: true }) }
}
