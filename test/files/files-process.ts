import { createPrivateKey, X509Certificate } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type t from 'tap'
import { eventually } from '../fakes/eventually.ts'
import { RunningProcess } from '../fakes/processes.ts'
import { runAssay } from '../fakes/run-assay.ts'
import { sameSerial } from '../fakes/serial.ts'
import type { FakeAgent } from './fake-agent.ts'

const patienceMs = 120_000

/** A folder with certificates in it, which others may read, and the program that keeps them. */
export class FilesFolder {
  readonly home = mkdtempSync(join(tmpdir(), 'assay-files-run-'))
  readonly certs = join(this.home, 'certs')
  readonly svid = join(this.certs, 'svid.pem')
  readonly key = join(this.certs, 'key.pem')
  readonly bundle = join(this.certs, 'bundle.pem')
  readonly #socket: string

  constructor (test: Pick<typeof t, 'teardown'>, agent: FakeAgent) {
    chmodSync(this.home, 0o755)
    mkdirSync(this.certs)
    this.#socket = agent.socket
    test.teardown(() => rmSync(this.home, { recursive: true, force: true }))
  }

  /** @returns the path of the configuration */
  write (keys: Readonly<Record<string, unknown>>): string {
    const file = join(this.home, 'files.json')
    const names = { svid_file_name: 'svid.pem', svid_key_file_name: 'key.pem', svid_bundle_file_name: 'bundle.pem' }
    writeFileSync(file, JSON.stringify({ agent_address: this.#socket, cert_dir: this.certs, ...names, ...keys }))
    return file
  }

  /** Before the program that reads them is started. */
  async fetch (keys: Readonly<Record<string, unknown>> = {}): Promise<void> {
    const { code, stderr } = await runAssay(['files', 'fetch', '-config', this.write({ ...keys, daemon_mode: false })])
    if (code !== 0) throw new Error(stderr)
  }

  start (test: Pick<typeof t, 'teardown'>, keys: Readonly<Record<string, unknown>>): FilesProcess {
    const running = new FilesProcess(['files', 'run', '-config', this.write(keys)])
    test.teardown(() => running.kill9())
    return running
  }

  /** What a program that starts now finds. @throws {Error} when certificate and key do not belong together */
  readPair (): X509Certificate | undefined {
    if (!existsSync(this.svid)) return undefined
    const certificate = new X509Certificate(readFileSync(this.svid))
    if (!certificate.checkPrivateKey(createPrivateKey(readFileSync(this.key)))) throw new Error('the key is another one\'s')
    return certificate
  }

  async holds (serial: string): Promise<void> {
    await eventually(`serial ${serial} is in the file`, () => sameSerial(this.readCertificate()?.serialNumber, serial), patienceMs)
  }

  readCertificate (): X509Certificate | undefined {
    return existsSync(this.svid) ? new X509Certificate(readFileSync(this.svid)) : undefined
  }
}

class FilesProcess extends RunningProcess {
  /** Once it has said so of this serial. */
  async said (message: string, serial: string): Promise<void> {
    await eventually(() => `"${message}" of ${serial} in:\n${this.log}`, () => {
      if (!this.running) throw new Error(`it has ended:\n${this.log}`)
      return this.lines().some(line => line['msg'] === message && sameSerial(line['serial'], serial))
    }, patienceMs)
  }
}
