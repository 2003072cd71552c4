import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'

const source = join(import.meta.dirname, '../interop/certcheck')
const cache = join(import.meta.dirname, '../../node_modules/.cache/assay')

export interface JudgedCertificate {
  readonly error?: string
  readonly verifyError?: string
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly subject: string
  readonly serial: string
  readonly notBefore: number
  readonly notAfter: number
  readonly keyUsage: number
  readonly extKeyUsage: readonly number[]
  readonly hasBasicConstraints: boolean
  readonly isCa: boolean
  /** -1: no limit. */
  readonly maxPathLen: number
  readonly subjectKeyId: string
  readonly authorityKeyId: string
  readonly algorithm: string
  readonly keyAlgorithm: string
  readonly critical: readonly string[]
  readonly extensions: readonly string[]
  readonly unhandled: number
  readonly samePublicKey: boolean
}

export interface JudgedRequest {
  readonly error?: string
  readonly uris: readonly string[]
  readonly dnsNames: readonly string[]
  readonly subject: string
}

export interface CertificateCase { readonly chain: readonly Uint8Array[], readonly roots: readonly Uint8Array[], readonly at: Date }

/** Why Go's crypto/x509 cannot judge here; `false` if it can. For tap's `skip`. */
export const noGo: string | false = spawnSync('go', ['version']).status === 0 ? false : 'no Go on PATH: crypto/x509 did not judge'

/** What Go's crypto/x509 sees, in the order given. Builds `test/interop/certcheck` once per version of its source. */
export function judgeWithGo (cases: readonly CertificateCase[], requests: readonly Uint8Array[] = []):
{ readonly cases: readonly JudgedCertificate[], readonly requests: readonly JudgedRequest[] } {
  const base64 = (der: Uint8Array) => Buffer.from(der).toString('base64')
  const input = JSON.stringify({
    cases: cases.map(({ chain, roots, at }) => ({
      chain: chain.map(base64), roots: roots.map(base64), at: Math.floor(at.getTime() / 1000)
    })),
    requests: requests.map(base64)
  })
  return JSON.parse(execFileSync(build(), { input, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })) as ReturnType<typeof judgeWithGo>
}

function build (): string {
  const hash = createHash('sha256')
  for (const name of ['go.mod', 'main.go']) hash.update(readFileSync(join(source, name)))
  const program = join(cache, `certcheck-${hash.digest('hex').slice(0, 16)}`)
  if (existsSync(program)) return program
  mkdirSync(cache, { recursive: true })
  const unfinished = `${program}.${process.pid}`
  const env = { ...process.env, GOFLAGS: '', GOTOOLCHAIN: 'local', GOWORK: 'off' }
  execFileSync('go', ['build', '-o', unfinished, '.'], { cwd: source, env })
  renameSync(unfinished, program)
  return program
}
