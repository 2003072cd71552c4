import type { CommandGroup } from '../command.ts'

export const oidcCommands: CommandGroup = {
  summary: 'OpenID Connect discovery for JWT-SVIDs',
  commands: {
    serve: {
      summary: 'Serve the discovery document and the keys until SIGINT or SIGTERM',
      load: async () => (await import('./oidc-serve.ts')).oidcServe
    },
    validate: {
      summary: 'Check a provider\'s configuration without running it',
      load: async () => (await import('./oidc-validate.ts')).oidcValidate
    }
  }
}
