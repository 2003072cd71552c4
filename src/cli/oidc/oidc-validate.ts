import { defineCommand } from '../command.ts'
import { oidcConfigFlags, readOidcConfig } from './oidc-config-flags.ts'

export const oidcValidate = defineCommand({
  flags: oidcConfigFlags,
  examples: ['assay oidc validate -config oidc-discovery-provider.conf'],
  async run ({ flags, terminal }) {
    await readOidcConfig(flags, terminal)
    terminal.out('Assay OIDC provider configuration is valid.\n')
    return 0
  }
})
