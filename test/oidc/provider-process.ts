import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type t from 'tap'
import { RunningProcess } from '../fakes/processes.ts'
import type { CertificateFolder, WebAuthority } from './web-certificate.ts'

/** `assay oidc serve` in a process of its own, given a file as SPIRE has it. */
export async function startProvider (test: Pick<typeof t, 'teardown'>, files: CertificateFolder, web: WebAuthority, keys: string) {
  const folder = mkdtempSync(join(tmpdir(), 'assay-oidc-run-'))
  const file = join(folder, 'oidc-discovery-provider.conf')
  writeFileSync(file, `
    domains = ["oidc.example.org"]
    serving_cert_file {
      cert_file_path = "${files.paths.certificatePath}"
      key_file_path = "${files.paths.keyPath}"
      file_sync_interval = "100ms"
      addr = "127.0.0.1:0"
    }
    ${keys}
  `)
  const provider = new RunningProcess(['oidc', 'serve', '-config', file])
  test.teardown(async () => { await provider.kill9(); rmSync(folder, { recursive: true }) })
  const { where } = await provider.logged('serving OIDC documents')
  const port = Number(/:(\d+)$/.exec(String(where))?.[1])
  return { provider, reach: { port, ca: web.pem } }
}
