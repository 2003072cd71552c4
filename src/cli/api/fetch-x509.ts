import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { systemClock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { workloadService, type X509SVIDResponse } from '../../wire/generated/workload.ts'
import { splitCertificates } from '../../x509/certificate.ts'
import { encodePem } from '../../x509/pem.ts'
import { withAgent } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { durationFlag, pathFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { printable } from '../pretty.ts'
import { reasonOf } from '../../runtime/reason-of.ts'
import { agentFlags, outputFlag } from '../socket-path.ts'
import { writeOutputFile, writeSecretFile } from '../write-output.ts'
import { formatX509Response } from './format-x509.ts'
import { workloadCallOptions } from './workload-call.ts'

export const fetchX509 = defineCommand({
  flags: {
    silent: switchFlag('print nothing'),
    timeout: durationFlag('how long to wait for an answer', 5_000, '5s'),
    write: pathFlag('write svid.N.pem, svid.N.key (mode 0600) and bundle.N.pem into this folder', { placeholder: 'DIR' }),
    ...agentFlags,
    output: outputFlag
  },
  details: 'The SVIDs are those of this very process: the agent attests `assay` itself.\n' +
    'With --output json the private keys are printed too.',
  examples: [
    'assay api fetch x509',
    'assay api fetch x509 -write /run/my-svid -silent',
    'assay api fetch x509 -socketPath unix:///run/agent.sock --output json'
  ],
  async run (call) {
    const { flags, terminal } = call
    const started = systemClock.monotonicMs()
    const response = await withAgent(call, async channel => {
      const stream = channel.client(workloadService).fetchX509SVID({}, workloadCallOptions(terminal, flags.timeout))
      for await (const response of stream) return response
      throw new SpiffeError('server_unreachable', 'the agent ended the stream without an answer')
    })
    const afterMs = systemClock.monotonicMs() - started
    const told = flags.write === undefined ? '' : await writeResponse(flags.write, response)
    if (flags.silent) return 0
    const pretty = () => formatX509Response(response, afterMs, terminal.program) + told
    terminal.out(flags.output === 'json' ? `${formatJson(jsonForm(response))}\n` : pretty())
    return 0
  }
})

/** Trust domains and not field names are the keys of the map. */
function jsonForm (response: X509SVIDResponse): unknown {
  return { ...response, federatedBundles: new Map(Object.entries(response.federatedBundles)) }
}

async function writeResponse (folder: string, { svids, federatedBundles }: X509SVIDResponse): Promise<string> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw new SpiffeError('file_unusable', `cannot make the folder ${folder}: ${reasonOf(error)}`, { cause: error })
  })
  const told: string[] = []
  const write = async (what: string, name: string, content: string, secret = false) => {
    told.push(`Writing ${what} to file ${join(folder, name)}.\n`)
    await (secret ? writeSecretFile(join(folder, name), content) : writeOutputFile(join(folder, name), content, 0o644))
  }
  for (const [index, { x509Svid, x509SvidKey, bundle }] of svids.entries()) {
    await write(`SVID #${index}`, `svid.${index}.pem`, pemOf(x509Svid))
    await write(`key #${index}`, `svid.${index}.key`, encodePem('PRIVATE KEY', x509SvidKey), true)
    await write(`bundle #${index}`, `bundle.${index}.pem`, pemOf(bundle))
    for (const [number, [trustDomain, federated]] of Object.entries(federatedBundles).entries()) {
      const what = `federated bundle #${number} for trust domain ${printable(trustDomain)}`
      await write(what, `federated_bundle.${index}.${number}.pem`, pemOf(federated))
    }
  }
  return told.join('')
}

function pemOf (certificates: Uint8Array): string {
  return splitCertificates(certificates).map(der => encodePem('CERTIFICATE', der)).join('')
}
