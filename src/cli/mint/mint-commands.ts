import type { CommandGroup } from '../command.ts'

export const x509Commands: CommandGroup = {
  summary: 'X509-SVIDs from the server, without an agent',
  commands: {
    mint: {
      summary: 'Make a key and an X509-SVID for it',
      load: async () => (await import('./x509-mint.ts')).x509Mint
    }
  }
}

export const jwtCommands: CommandGroup = {
  summary: 'JWT-SVIDs from the server, without an agent',
  commands: {
    mint: {
      summary: 'Make a JWT-SVID',
      load: async () => (await import('./jwt-mint.ts')).jwtMint
    }
  }
}
