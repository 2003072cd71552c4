import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatBundleDocument } from '../../../src/spiffe/bundle-document.ts'
import { agentService } from '../../../src/wire/generated/server-agent.ts'
import { encodePem } from '../../../src/x509/pem.ts'
import { attest, type ServerAccess } from '../../fakes/agent-client.ts'
import { createTestAuthority } from '../../fakes/authority.ts'
import type { Outcome } from '../../fakes/run-assay.ts'
import { type CommandLine, files } from './command-lines.ts'
import { tell, type Told } from './normalise.ts'

type Run = (words: readonly string[], input: string) => Promise<Outcome>

export interface ServerSide { readonly server: ServerAccess, readonly socketPath: string, readonly run: Run }

/** Runs all lines, one after the other, against one server that is new. */
export async function runServerLines ({ server, socketPath, run }: ServerSide, lines: readonly CommandLine[]): Promise<readonly Told[]> {
  await attest(server, (await server.admin.client(agentService).createJoinToken({ ttl: 600, token: 'parity' })).value)
  return await runEach(run, lines, () => socketPath)
}

export interface AgentSide { readonly socketPath: string, readonly adminSocketPath: string, readonly run: Run }

/** The same against one agent at which this process has one identity, `/parity`. */
export async function runAgentLines ({ socketPath, adminSocketPath, run }: AgentSide, lines: readonly CommandLine[]) {
  return await runEach(run, lines, words => /^(debug|logger) /.test(words) ? adminSocketPath : socketPath)
}

async function runEach (run: Run, lines: readonly CommandLine[], socketOf: (words: string) => string): Promise<readonly Told[]> {
  const folder = await mkdtemp(join(tmpdir(), 'spire-parity-'))
  try {
    const known: Record<string, string> = { FOLDER: folder, ...await putFiles(folder) }
    const filled = (text: string) => text.replace(/\$([\w.]+\.pem|\w+)/g, (whole, name: string) => known[name] ?? whole)
    const told: Told[] = []
    for (const { words, input = '', local = false, remember } of lines) {
      const given = [...words.matchAll(/"([^"]*)"|\S+/g)].map(([whole, quoted]) => filled(quoted ?? whole))
      const outcome = await run(local ? given : [...given, '-socketPath', socketOf(words)], filled(input))
      if (remember !== undefined) known[remember[0]] = remember[1].exec(outcome.stdout)?.[1] ?? 'unknown'
      told.push(tell(words, outcome))
    }
    return told
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function putFiles (folder: string): Promise<Record<string, string>> {
  const { bundle } = await createTestAuthority('partner.test')
  const pem = bundle.x509Authorities.map(({ certificate }) => encodePem('CERTIFICATE', certificate)).join('')
  const all = { ...files, 'partner.pem': pem, 'partner.json': formatBundleDocument(bundle) }
  for (const [name, text] of Object.entries(all)) await writeFile(join(folder, name), text)
  return { 'partner.pem': pem }
}
