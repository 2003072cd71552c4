import { defineCommand } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { outputFlag } from '../socket-path.ts'
import { certificateFacts, formatCertificateFacts } from './certificate-facts.ts'
import { readSvidFile } from './read-svid-file.ts'
import { formatTokenFacts, tokenFacts } from './token-facts.ts'

export const svidInspect = defineCommand({
  flags: { output: outputFlag },
  argument: { name: 'FILE' },
  details: 'FILE is an X.509 chain in PEM or DER, or a JWT; - is standard input. Nothing is verified: see `assay svid verify`.',
  examples: ['assay svid inspect svid.pem', 'assay svid inspect token.jwt --output json', 'assay bundle show | assay svid inspect -'],
  async run ({ flags, argument, terminal }) {
    const file = await readSvidFile(argument, terminal)
    if (file.kind === 'x509') {
      const facts = file.chain.map(certificateFacts)
      const json = () => `${formatJson({ kind: 'x509', certificates: facts })}\n`
      terminal.out(flags.output === 'json' ? json() : facts.map(formatCertificateFacts).join('\n'))
    } else {
      const facts = tokenFacts(file.token)
      terminal.out(flags.output === 'json' ? `${formatJson({ kind: 'jwt', ...facts })}\n` : formatTokenFacts(facts))
    }
    return 0
  }
})
