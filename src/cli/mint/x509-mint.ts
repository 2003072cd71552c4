import { generateKeyPairSync } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { SpiffeError } from '../../spiffe/errors.ts'
import { bundleService } from '../../wire/generated/server-bundle.ts'
import { svidService } from '../../wire/generated/server-svid.ts'
import { createCertificateRequest } from '../../x509/certificate-request.ts'
import { encodePem } from '../../x509/pem.ts'
import { withServer } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { pathFlag, secondsFlag, spiffeIdFlag, textListFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { formatUnixSeconds } from '../pretty.ts'
import { reasonOf } from '../../runtime/reason-of.ts'
import { outputFlag, serverFlags } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { writeOutputFile, writeSecretFile } from '../write-output.ts'
import { systemClock } from '../../runtime/clock.ts'

interface Minted { readonly svid: string, readonly key: string, readonly bundle: string }

export const x509Mint = defineCommand({
  flags: {
    spiffeID: spiffeIdFlag('the SPIFFE ID of the SVID'),
    ttl: secondsFlag('life of the SVID', 'the server\'s'),
    dns: textListFlag('a DNS name in the SVID; the first becomes the common name', 'NAME'),
    write: pathFlag('write svid.pem, key.pem (mode 0600) and bundle.pem into this folder', { placeholder: 'DIR' }),
    ...serverFlags,
    output: outputFlag
  },
  details: 'The key (P-256) is made here and never leaves this machine. Without -write it is printed.',
  examples: [
    'assay x509 mint -spiffeID spiffe://example.org/batch -write .',
    'assay x509 mint -spiffeID spiffe://example.org/db -dns db.internal -ttl 1h'
  ],
  async run (call) {
    const { flags, terminal } = call
    const { spiffeID: id, dns: dnsNames, ttl } = flags
    if (id === undefined) throw usage('a SPIFFE ID is required: -spiffeID')
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
    const csr = createCertificateRequest(privateKey, { uriSans: [id], dnsSans: dnsNames })
    const { signal } = terminal
    const { svid, bundle } = await withServer(call, async channel => ({
      svid: (await channel.client(svidService).mintX509SVID({ csr, ttl }, { signal })).svid,
      bundle: await channel.client(bundleService).getBundle({ outputMask: { x509Authorities: true } }, { signal })
    }))
    if (svid === undefined || svid.certChain.length === 0) throw new SpiffeError('x509_svid_invalid', 'the server answered without an SVID')
    warnIfShort(terminal, svid.expiresAt, ttl)
    const minted = {
      svid: svid.certChain.map(der => encodePem('CERTIFICATE', der)).join(''),
      key,
      bundle: bundle.x509Authorities.map(({ asn1 }) => encodePem('CERTIFICATE', asn1)).join('')
    }
    const told = flags.write === undefined ? undefined : await writeMinted(flags.write, minted)
    if (flags.output === 'json') {
      // SPIRE's form: DER in base64, each certificate for itself.
      const keyDer = told === undefined ? privateKey.export({ type: 'pkcs8', format: 'der' }) : undefined
      const rootCas = bundle.x509Authorities.map(({ asn1 }) => asn1)
      terminal.out(`${formatJson({ x509Svid: svid.certChain, privateKey: keyDer, rootCas })}\n`)
    } else {
      terminal.out(told ?? `X509-SVID:\n${minted.svid}\nPrivate key:\n${key}\nRoot CAs:\n${minted.bundle}\n`)
    }
    return 0
  }
})

async function writeMinted (folder: string, { svid, key, bundle }: Minted): Promise<string> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw new SpiffeError('file_unusable', `cannot make the folder ${folder}: ${reasonOf(error)}`, { cause: error })
  })
  const paths = { svid: join(folder, 'svid.pem'), key: join(folder, 'key.pem'), bundle: join(folder, 'bundle.pem') }
  await writeSecretFile(paths.key, key)
  await writeOutputFile(paths.svid, svid, 0o644)
  await writeOutputFile(paths.bundle, bundle, 0o644)
  return `X509-SVID written to ${paths.svid}\nPrivate key written to ${paths.key}\nRoot CAs written to ${paths.bundle}\n`
}

/** Servers cut the life of an SVID at the end of their CA's. */
function warnIfShort (terminal: Terminal, expiresAt: bigint, ttl: number | undefined): void {
  const slackSeconds = 60
  const left = Number(expiresAt) - systemClock.now().getTime() / 1_000
  if (ttl === undefined || left >= ttl - slackSeconds) return
  terminal.err(`Warning: X509-SVID lifetime was capped shorter than specified ttl; expires ${formatUnixSeconds(expiresAt)}\n`)
}
