{
  description = "kiln: a declarative build tool for machine-learning pipelines, with a content-addressed cache";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      forEachSystem = f: nixpkgs.lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      cargo = (builtins.fromTOML (builtins.readFile ./Cargo.toml)).workspace.package;
      # What the build reads; a change to anything else is no reason to build again.
      source = pkgs: pkgs.lib.fileset.toSource {
        root = ./.;
        fileset = pkgs.lib.fileset.unions [
          ./.config
          ./Cargo.toml
          ./Cargo.lock
          ./cache
          ./clippy.toml
          ./docs
          ./kernels
          ./recipes
          ./rustfmt.toml
          ./src
          ./tests
          ./README.md
          ./CHANGELOG.md
        ];
      };
      kiln = pkgs: pkgs.rustPlatform.buildRustPackage {
        pname = "kiln";
        version = cargo.version;
        src = source pkgs;
        cargoLock.lockFile = ./Cargo.lock;
        # Nix's own sandbox forbids the namespaces that the tests need; `tests/run` is for outside of it.
        doCheck = false;
        nativeBuildInputs = [ pkgs.installShellFiles ];
        postInstall = ''
          installShellCompletion --cmd kiln \
            --bash <($out/bin/kiln completions bash) \
            --fish <($out/bin/kiln completions fish) \
            --zsh <($out/bin/kiln completions zsh)
        '';
        meta = {
          description = "A declarative build tool for machine-learning pipelines, with a content-addressed cache";
          license = [ pkgs.lib.licenses.asl20 pkgs.lib.licenses.mit ];
          mainProgram = "kiln";
          platforms = pkgs.lib.platforms.linux;
        };
      };
    in
    {
      packages = forEachSystem (pkgs: {
        default = kiln pkgs;
      });

      devShells = forEachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (kiln pkgs) ];
          packages = [ pkgs.cargo-deny pkgs.cargo-nextest pkgs.clippy pkgs.rust-analyzer pkgs.rustfmt ];
        };
      });

      checks = forEachSystem (pkgs: {
        package = kiln pkgs;
        format = pkgs.runCommand "kiln-format" { nativeBuildInputs = [ pkgs.cargo pkgs.rustfmt ]; } ''
          cd ${source pkgs}
          cargo fmt --all --check
          touch $out
        '';
        lints = (kiln pkgs).overrideAttrs (old: {
          pname = "kiln-lints";
          nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
          buildPhase = "cargo clippy --offline --workspace --all-targets -- -D warnings";
          installPhase = "touch $out";
        });
      });

      formatter = forEachSystem (pkgs: pkgs.nixpkgs-fmt);
    };
}
