// Every command, its arguments and options. What a command does is loaded when it is asked for: `serve` pays for no other.
import type { Shell } from './shell.ts'
import { exitCodes } from './shell.ts'

type ExplainOptions = { readonly config?: string; readonly certificate?: string; readonly json?: boolean }

/**
 * Runs one command.
 *
 * @param args Without the interpreter and the script.
 * @returns The exit code; 2 for a command line that is wrong.
 */
export async function runCommand(args: readonly string[], shell: Shell): Promise<number> {
  const [command, option, file] = args
  // The one command line that runs for months is read without the library that would stay in memory: 5 MiB.
  if (args.length === 3 && command === 'serve' && option === '--config' && file !== undefined)
    return await (await import('./serve.ts')).serve(file, shell)
  // Nobody's to type, so no command of the help.
  if (args.length === 1 && command === 'worker') return await (await import('./worker.ts')).worker(shell)
  const { Command, CommanderError, InvalidArgumentError, Option } = await import('commander')
  let code: number = exitCodes.ok
  const set = (result: number) => {
    code = result
  }
  const program = new Command('postern')
    .description(
      'A gate before a service: lets a request through only when its OAuth access token is good for that route.',
    )
    .version(versionText(shell), '-v, --version', 'print the version')
    .exitOverride()
    .configureOutput({
      writeOut: shell.out,
      writeErr: shell.say,
      outputError: (text, write) => write(withoutValues(text)),
    })
    .showHelpAfterError('(postern --help shows every command)')

  const named = (file: string) => {
    if (file === '') throw new InvalidArgumentError('It is empty, wanted the path of a file.')
    return file
  }
  // Commander asks for what is required before it says that `--confg` is no option.
  const required = ({ config }: { config?: string }, command: InstanceType<typeof Command>): string =>
    config ?? command.error("error: required option '--config <file>' not specified")
  program
    .command('serve')
    .description('run the gateway')
    .option('--config <file>', 'configuration file, required', named)
    .action(async (options: { config?: string }, command) =>
      set(await (await import('./serve.ts')).serve(required(options, command), shell)),
    )

  program
    .command('check')
    .description('check configuration files, and say what they mean together')
    .argument('[files...]', 'configuration files')
    .option('--json', 'findings as JSON')
    .option('--strict', 'warnings are errors')
    .option('--secrets', 'secrets and files that are not here are errors, as they are to serve')
    .addOption(new Option('--docs [directory]', 'write the schema and the reference').preset('config'))
    .action(async (files: string[], options: { json?: true; strict?: true; secrets?: true; docs?: string }) =>
      set((await import('./check.ts')).check(files, options, shell)),
    )

  program
    .command('explain')
    .description('explain one decision step by step; the token comes on stdin')
    .argument('<method>', 'such as GET')
    .argument('<url>', 'such as http://api.example.com/orders/1, or /orders/1')
    .option('--config <file>', 'configuration file, required', named)
    .option('--certificate <thumbprint>', 'SHA-256 of the certificate the client shows, base64url (x5t#S256)')
    .option('--json', 'steps as JSON')
    .action(async (method: string, url: string, options: ExplainOptions, command) => {
      const config = required(options, command)
      set(await (await import('./explain.ts')).explainCommand(method, url, { ...options, config }, shell))
    })

  program
    .command('issuer')
    .description('run the bundled issuer')
    .option('--config <file>', 'configuration file, required', named)
    .option('--dev', 'for trying out: store in memory, demonstration keys, tokens made to order')
    .action(async (options: { config?: string; dev?: true }, command) => {
      const config = required(options, command)
      set(await (await import('./issuer.ts')).issuer({ ...options, config }, shell))
    })

  program
    .command('demo')
    .description('run two issuers, a service and the gateway, and every case in the table')
    .option('--keep', 'leave it running, with the addresses to try')
    .action(async (options: { keep?: true }) => set(await (await import('./demo.ts')).demo(options, shell)))

  program
    .command('schema')
    .description('print the JSON Schema of the configuration file')
    .action(async () => set((await import('./schema.ts')).schema(shell)))

  program
    .command('health')
    .description('ask a running gateway how it is')
    .option('--url <url>', 'what to ask (default: http://127.0.0.1:9464/livez)')
    .action(async (options: { url?: string }) => set(await (await import('./health.ts')).health(options, shell)))

  program
    .command('version')
    .description('print the version')
    .option('--json', 'as JSON')
    .action(({ json }: { json?: true }) => {
      const { version, revision } = shell
      const told = { version, revision, node_version: process.version }
      shell.out(json === true ? `${JSON.stringify(told)}\n` : `${versionText(shell)}\n`)
    })

  try {
    await program.parseAsync([...args], { from: 'user' })
    return code
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    // Help or a version that was asked for is no mistake.
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
  }
}

function versionText({ version }: Shell): string {
  return `postern ${version} (Node ${process.version})`
}

/** What commander says of a wrong command line, without the values in it: one of them may be a token. */
function withoutValues(text: string): string {
  return text.replace(/('-[\w-]+)=.*'/s, "$1'").replace(/(but got \d+): .*/s, '$1.\n')
}
